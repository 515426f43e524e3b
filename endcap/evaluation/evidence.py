"""Whether a verdict has the evidence that its gate asks for: enough test sessions, and narrow intervals.

The width of a condition's interval is told as a share of the other model's value. A ratio and a relative difference
are in that unit already; a difference, and a metric that is held by itself, are divided by the value. Where the value
is 0 the share is infinite, unless the interval is a point.

An interval that lies on one side of the limit decides whatever its width is: the limit is not in question. So
"26 times popularity, 21 to 32" passes "at least 1.5", however small popularity's own value is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from endcap.spec.gate import P90_MS, Condition, Evidence
from endcap.spec.recommender import GivenSplit, LeaveOneOutSplit, TimeSplit

if TYPE_CHECKING:
    from endcap.evaluation.gate import ConditionOutcome, Estimate

REMEDIES = {
    "time": "set split.test larger, or bring a longer log",
    "given": "bring more sessions of `part: test`",
    "leave-one-out": "bring a log of more sessions",
}
"""What gives more test sessions, by `split.by`."""


def compute_half_width(compare: str | None, estimate: Estimate, value: float) -> float | None:
    """Half the width of a condition's interval as a share of a value, the other model's or the metric's own.

    compare: as the condition has it; None: the metric by itself. None where there is no interval; infinite where an
    end is, or where the value is 0 and the interval is no point.
    """
    if estimate.lower is None or estimate.upper is None:
        return None
    if estimate.lower == estimate.upper:
        return 0.0
    half = (estimate.upper - estimate.lower) / 2
    if compare in ("ratio", "relative"):
        return half
    return half / abs(value) if value else math.inf


def is_open(condition: Condition, estimate: Estimate) -> bool:
    """Whether the limit lies within the interval, so that its width matters.

    It does not matter of `p90_ms`, whose interval is over predictions that were timed: more sessions do not narrow it.
    """
    if estimate.lower is None or estimate.upper is None or condition.metric == P90_MS:
        return False
    if condition.min is not None:
        return estimate.lower < condition.min <= estimate.upper
    assert condition.max is not None
    return estimate.lower <= condition.max < estimate.upper


def find_missing_evidence(
    evidence: Evidence,
    sessions: int,
    outcomes: Sequence[ConditionOutcome],
    split: TimeSplit | GivenSplit | LeaveOneOutSplit,
) -> list[str]:
    """What is missing to decide, a sentence each, with what to do; nothing where the evidence is enough.

    sessions: of the test. outcomes: of the conditions; where there are none, nothing is to be decided.
    """
    if not outcomes:
        return []
    remedy, said = REMEDIES[split.by], []
    if sessions < evidence.min_sessions:
        said.append(
            f"the test has {sessions:,} session{'' if sessions == 1 else 's'}, and gate.evidence.min_sessions asks for "
            f"{evidence.min_sessions:,}: {remedy}"
        )
    for outcome in outcomes:
        if not outcome.is_open or outcome.half_width is None or outcome.half_width <= evidence.max_half_width:
            continue
        there, asked = outcome.half_width, evidence.max_half_width
        of = "its own value" if outcome.against is None else f"{outcome.other}'s value"
        said.append(
            f"{outcome.what} is known to within {_share(there)} of {of}, and gate.evidence.max_half_width asks for "
            f"{_share(asked)}: {_wanted(there, asked, sessions)}{remedy}"
        )
    return said


def _wanted(there: float, asked: float, sessions: int) -> str:
    """About how many sessions make an interval as narrow: its width falls with their square root."""
    if not math.isfinite(there):
        return ""
    count = sessions * (there / asked) ** 2
    step = 10 ** max(0, int(math.log10(count)) - 1)
    return f"about {math.ceil(count / step) * step:,} test sessions would do, there are {sessions:,}; "


def _share(share: float) -> str:
    return f"{100 * share:.3g} %" if math.isfinite(share) else "no share"
