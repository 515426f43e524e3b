"""What an A/B test has won by moving shoppers, look by look, from the sums that its log keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from endcap.ab.history import AbHistory
from endcap.experiments.ab_evidence import ChallengerEvidence
from endcap.experiments.ab_gain import LayoutSums, SplitGain, estimate_gain
from endcap.experiments.ab_log import AbLogEntry
from endcap.experiments.splits import Arm


@dataclass(frozen=True)
class GainPoint:
    """What was won until a moment (UTC)."""

    time: datetime
    gain: SplitGain


def trace_gain(history: AbHistory) -> list[GainPoint]:
    """Return what a test has won at the end of each of its layouts, and at the newest look, oldest first.

    Notes
    -----
    Visits count for the layout in which they were over. One whose window lasts beyond a change counts for the next
    layout, with its own probabilities.
    """
    policy = history.policy
    better = policy.rollout.deciding_metric.direction == "up"
    planned = max(1, policy.ab.longest // policy.ab.epoch)
    points: list[GainPoint] = []
    layouts: list[LayoutSums] = []
    before: dict[Arm, ChallengerEvidence] = {}
    for group in _group_looks(history.looks):
        last = group[-1]
        assert last.evidence is not None
        assert last.before is not None
        latest = {each.arm: each for each in last.evidence.challengers}
        layouts.append(
            LayoutSums(
                last.before.weights,
                {arm: each.score - _read(before, arm, "score") for arm, each in latest.items()},
                {arm: each.variance - _read(before, arm, "variance") for arm, each in latest.items()},
            )
        )
        before |= latest
        points.append(GainPoint(last.time, estimate_gain(layouts, better=better, planned=planned)))
    return points


def _group_looks(looks: Sequence[AbLogEntry]) -> list[list[AbLogEntry]]:
    """Group looks by the layout that shoppers had before each of them."""
    groups: list[list[AbLogEntry]] = []
    number = None
    for entry in looks:
        assert entry.before is not None
        if entry.before.is_over:
            break
        if entry.before.layouts != number:
            groups.append([])
            number = entry.before.layouts
        groups[-1].append(entry)
    return groups


def _read(sums: dict[Arm, ChallengerEvidence], arm: Arm, name: str) -> float:
    value: float = getattr(sums[arm], name) if arm in sums else 0.0
    return value
