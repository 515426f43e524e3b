"""What makes the figures of a verdict less than they seem: said in it, and while it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from endcap.evaluation.candidate_counts import warn_of_candidates
from endcap.evaluation.overlap import measure_overlap, warn_of_overlap
from endcap.evaluation.protocol import EvaluationProtocol
from endcap.evaluation.query_counts import warn_of_baskets, warn_of_equal_times, warn_of_one_moment
from endcap.evaluation.rule_masks import ShopRules, warn_of_rules
from endcap.features.view import View
from endcap.rules.unmatched import count_unmatched_rules, find_rule_warnings
from endcap.spec.recommender import GivenSplit, LeaveOneOutSplit
from endcap.spec.settings import JudgeSettings

Json = dict[str, Any]


def collect_warnings(
    settings: JudgeSettings, view: View, dataset: Path, examination: EvaluationProtocol, house: ShopRules | None
) -> tuple[Json, list[str]]:
    """What weakens the figures of all models alike: facts for a verdict, and a sentence each.

    dataset: the folder that the view is of. The facts are `candidates` (`candidate_facts`), `overlap` (`overlap_of`),
    and where the shop has rules `rules` (`HouseRules.facts`).
    """
    facts: Json = {
        "candidates": examination.candidates(),
        "overlap": measure_overlap(dataset) if isinstance(settings.split, GivenSplit) else {},
    }
    about = (_later_training, warn_of_equal_times, warn_of_one_moment, warn_of_baskets)
    warnings = [caveat(settings, view) for caveat in about]
    warnings += [_alone(settings), *warn_of_overlap(facts["overlap"])]
    warnings += warn_of_candidates(settings.evaluation, facts["candidates"])
    if house is not None:
        facts["rules"] = house.facts(view)
        warnings.append(warn_of_rules(facts["rules"], len(examination.predictions)))
        warnings += [warning["text"] for warning in find_rule_warnings(count_unmatched_rules(house.catalogue))]
    return facts, [warning for warning in warnings if warning]


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
