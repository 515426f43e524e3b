"""Why an answer that is computed again differs from the one that was given: a closed list of names."""

from __future__ import annotations

EQUAL = "equal"
ROUNDING = "rounding"
PACKAGE_GONE = "package-gone"
FORGOTTEN = "forgotten"
RULES_GONE = "rules-gone"
KEY_DIFFERS = "key-differs"
REFRESHED_RULE = "refreshed-rule"
FROM_REQUEST = "from-request"
LATE_EVENT = "late-event"
CLOCK_AHEAD = "clock-ahead"
EXPIRED = "expired"
IN_FLIGHT = "in-flight"
STORE_UNAVAILABLE = "store-unavailable"
LOG_BEHIND = "log-behind"
LOG_GONE = "log-gone"
UNEXPLAINED = "unexplained"

DESCRIPTIONS = {
    EQUAL: "the same, bit for bit",
    ROUNDING: "scores differ in their last bits: a sum depends on the sessions that are scored together",
    PACKAGE_GONE: "the version's package is gone, or this release cannot load it",
    FORGOTTEN: "the version's package was removed, because a customer in it is forgotten",
    RULES_GONE: "the rules that held then are gone",
    KEY_DIFFERS: "the pseudonyms were made with another key, so shoppers cannot be matched",
    REFRESHED_RULE: "newer rules had been read, and the predictor did not have them yet",
    FROM_REQUEST: "nothing was looked up: the request brought its events",
    LATE_EVENT: "an event had happened, and had not arrived yet",
    CLOCK_AHEAD: "an event had arrived with a time that was still to come",
    EXPIRED: "the online store keeps events for a while only, and the log has older ones",
    IN_FLIGHT: "an event arrived within moments of the request",
    STORE_UNAVAILABLE: "the online store did not answer",
    LOG_BEHIND: "an event is newer than the newest file of the log",
    LOG_GONE: "the log or the dataset does not have the day of an event any more",
    UNEXPLAINED: "nothing that is known explains the difference",
}
"""What each outcome means."""
