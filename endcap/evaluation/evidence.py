"""Whether a verdict has the evidence that its gate asks for: enough test sessions, and narrow intervals.

The width of an interval is measured as a share of the other model's value. A ratio and a relative difference are shares
already. A difference, and a metric without another model, are divided by the value.

An interval that lies on one side of the limit decides at any width, because the limit is then not in question. So
"26 times popularity, 21 to 32" passes "at least 1.5", however small popularity's own value is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from endcap.spec.gate import Evidence
from endcap.spec.split import GivenSplit, LeaveOneOutSplit, TimeSplit

if TYPE_CHECKING:
    from endcap.evaluation.gate import ConditionOutcome

REMEDIES = {
    "time": "set split.test larger, or bring a longer log",
    "given": "bring more sessions of `part: test`",
    "leave-one-out": "bring a log of more sessions",
}
"""What gives more test sessions, by `split.by`."""


def find_missing_evidence(
    evidence: Evidence,
    sessions: int,
    outcomes: Sequence[ConditionOutcome],
    split: TimeSplit | GivenSplit | LeaveOneOutSplit,
) -> list[str]:
    """Find what is missing to decide; each sentence says what to do. No sentence means that the evidence is enough.

    Parameters
    ----------
    evidence
        The spec's `gate.evidence`.
    sessions
        Number of test sessions.
    outcomes
        Of the conditions. Without conditions there is nothing to decide.
    split
        The recommender's split, which decides the remedy.
    """
    if not outcomes:
        return []
    remedy, messages = REMEDIES[split.by], []
    if sessions < evidence.min_sessions:
        messages.append(
            f"the test has {sessions:,} session{'' if sessions == 1 else 's'}, and gate.evidence.min_sessions asks for "
            f"{evidence.min_sessions:,}: {remedy}"
        )
    for outcome in outcomes:
        if not outcome.is_open or outcome.half_width is None or outcome.half_width <= evidence.max_half_width:
            continue
        width, limit = outcome.half_width, evidence.max_half_width
        unit = "its own value" if outcome.against is None else f"{outcome.other}'s value"
        messages.append(
            f"{outcome.what} is known to within {_format_width(width)} of {unit}, and gate.evidence.max_half_width "
            f"asks for {_format_width(limit)}: {_estimate_sessions(width, limit, sessions)}{remedy}"
        )
    return messages


def _estimate_sessions(width: float, limit: float, sessions: int) -> str:
    """Say about how many sessions make the interval narrow enough: its width falls with the square root of their
    number."""
    if not math.isfinite(width):
        return ""
    count = sessions * (width / limit) ** 2
    step = 10 ** max(0, int(math.log10(count)) - 1)
    return f"about {math.ceil(count / step) * step:,} test sessions would be enough, and there are {sessions:,}; "


def _format_width(share: float) -> str:
    return f"{100 * share:.3g} %" if math.isfinite(share) else "no share"
