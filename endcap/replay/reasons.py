"""Why an answer that is computed again differs from the one that was given: a closed list of names."""

from __future__ import annotations

EQUAL = "equal"
ROUNDING = "rounding"
PACKAGE_GONE = "package-gone"
RULES_GONE = "rules-gone"
KEY_DIFFERS = "key-differs"
UNEXPLAINED = "unexplained"

DESCRIPTIONS = {
    EQUAL: "the same items and scores, bit for bit",
    ROUNDING: "scores differ in their last bits: a sum depends on how many requests are ranked together",
    PACKAGE_GONE: "the version's package is gone, or this release cannot load it",
    RULES_GONE: "the rules that held then are gone",
    KEY_DIFFERS: "the pseudonyms were made with another key, and the model knows customers",
    UNEXPLAINED: "nothing that is known explains the difference",
}
"""What each outcome means."""
