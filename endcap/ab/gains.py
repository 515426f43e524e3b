"""What an A/B test has won by moving shoppers, look by look, from the sums that its log keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from endcap.ab.history import AbHistory
from endcap.experiments.ab_evidence import ChallengerEvidence
from endcap.experiments.ab_gain import LayoutSums, SplitGain, estimate_gain
from endcap.experiments.ab_log import AbLogEntry
from endcap.experiments.layout import Layout
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
    Visits count for the layout in which they began (`LayoutSums`). A look has all visits of a layout once its metric is
    complete until the layout's end; before that, the newest look stands for it. What a challenger did within the
    metric's window before it left is in no evidence, and does not count.
    """
    policy = history.policy
    metric, planned = policy.rollout.deciding_metric, max(1, policy.ab.longest // policy.ab.epoch)
    points: list[GainPoint] = []
    sums: list[LayoutSums] = []
    before: Mapping[Arm, ChallengerEvidence] = {}
    begins = _list_layouts(history)
    if not history.looks:
        return points
    newest = history.looks[-1].time
    ends: list[datetime | None] = [begin for begin, _ in begins[1:]]
    for (_, layout), end in zip(begins, [*ends, None], strict=True):
        after = _read_until(history, metric.name, end)
        arms = [arm for arm in after if layout.weigh(arm)]
        sums.append(
            LayoutSums(
                layout.weights,
                {arm: after[arm].score - (before[arm].score if arm in before else 0.0) for arm in arms},
                {arm: after[arm].variance - (before[arm].variance if arm in before else 0.0) for arm in arms},
            )
        )
        before = after
        points.append(GainPoint(end or newest, estimate_gain(sums, better=metric.direction == "up", planned=planned)))
    return points


def _list_layouts(history: AbHistory) -> list[tuple[datetime, Layout]]:
    """Return from when on each layout was served, oldest first. What is served after the test is none."""
    layouts = [(history.entries[0].time, history.entries[0].after.layout)]
    for entry in history.entries[1:]:
        if entry.after.is_over:
            break
        if entry.after.layout != layouts[-1][1]:
            layouts.append((entry.time, entry.after.layout))
    return layouts


def _read_until(history: AbHistory, metric: str, moment: datetime | None) -> dict[Arm, ChallengerEvidence]:
    """Return each challenger's newest evidence, up to the look that has all visits from before a moment."""
    latest: dict[Arm, ChallengerEvidence] = {}
    for entry in history.looks:
        assert entry.evidence is not None
        latest |= {each.arm: each for each in entry.evidence.challengers}
        if moment is not None and _find_complete(entry, metric) >= moment:
            break
    return latest


def _find_complete(entry: AbLogEntry, metric: str) -> datetime:
    """Return until when all visits are in a look: the look itself where the metric does not say."""
    challengers = () if entry.evidence is None else entry.evidence.challengers
    effects = (effect for each in challengers for effect in each.effects if effect.metric == metric)
    return min((effect.complete_until or entry.time for effect in effects), default=entry.time)
