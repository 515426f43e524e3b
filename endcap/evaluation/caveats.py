"""What makes the figures of a verdict less than they seem: said in it, and while it is made."""

from __future__ import annotations

from endcap.evaluation.asked import baskets_caveat, equal_times_caveat, one_moment_caveat
from endcap.features.view import View
from endcap.spec.recommender import LeaveOneOutSplit
from endcap.spec.settings import JudgeSettings


def caveats(settings: JudgeSettings, view: View) -> list[str]:
    """A sentence each."""
    about = (_later_training, equal_times_caveat, one_moment_caveat, baskets_caveat)
    found = [caveat(settings, view) for caveat in about]
    return [told for told in (*found, _alone(settings)) if told]


def _later_training(settings: JudgeSettings, view: View) -> str:
    if not isinstance(settings.split, LeaveOneOutSplit):
        return ""
    last, asked = int(view.training.times.max()), view.test.times[view.test.offsets[1:] - 1]
    return (
        f"split.by is leave-one-out: {(asked < last).sum():,} of {len(asked):,} test events are earlier than the last "
        "event trained on, so models have seen what others did afterwards. It is the published protocol for such data; "
        "figures of a split by time are those to expect in service"
    )


def _alone(settings: JudgeSettings) -> str:
    if settings.baselines:
        return ""
    return "baselines: the list is empty, so popularity was put in: no figure is shown with nothing beside it"
