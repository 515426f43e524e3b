"""What makes the figures of a verdict less than they seem: said in it, and while it is made."""

from __future__ import annotations

import numpy as np

from endcap.evaluation.asked import baskets_caveat, equal_times_caveat, one_moment_caveat
from endcap.evaluation.negatives import Negatives
from endcap.features.view import View
from endcap.spec.recommender import GivenNegatives, LeaveOneOutSplit, SampledNegatives
from endcap.spec.settings import JudgeSettings


def caveats(settings: JudgeSettings, view: View) -> list[str]:
    """A sentence each."""
    about = (_later_training, equal_times_caveat, one_moment_caveat, baskets_caveat, _sampled)
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


def _sampled(settings: JudgeSettings, view: View) -> str:
    negatives = settings.evaluation.negatives
    if negatives is None:
        return ""
    if isinstance(negatives, GivenNegatives):
        among = f"the items that {negatives.given} names"
    else:
        among = _drawn(negatives, view, settings.seed)
    return (
        f"evaluation.negatives: each next item was ranked among {among}, not among the catalogue. Such figures "
        "mislead: they do not compare with those of the whole catalogue, and may put the worse of two models ahead "
        "(Krichene and Rendle, 2020)"
    )


def _drawn(negatives: SampledNegatives, view: View, seed: int) -> str:
    sizes = Negatives(view.test, view.training, len(view.vocabulary), negatives, seed).sizes()
    wanted = view.predictions("test")
    predictions = np.bincount(wanted.owner, minlength=len(view.test))
    few = (sizes < negatives.sampled) & (predictions > 0)
    if not few.any():
        return f"{negatives.sampled:,} sampled items (mean of {negatives.draws} draws)"
    short, least, most = predictions[few].sum(), sizes[few].min(), sizes[few].max()
    return (
        f"at most {negatives.sampled:,} sampled items (mean of {negatives.draws} draws), in {short:,} of "
        f"{predictions.sum():,} predictions among fewer, for no more were never met: "
        f"{f'{least:,}' if least == most else f'{least:,} to {most:,}'}"
    )


def _alone(settings: JudgeSettings) -> str:
    if settings.baselines:
        return ""
    return "baselines: the list is empty, so popularity was put in: no figure is shown with nothing beside it"
