"""What limits the figures of a verdict. The verdict stores these warnings, and they are shown while it is made."""

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
from endcap.spec.settings import JudgeSettings
from endcap.spec.split import GivenSplit, LeaveOneOutSplit

Json = dict[str, Any]


def collect_warnings(
    settings: JudgeSettings, view: View, dataset: Path, protocol: EvaluationProtocol, shop_rules: ShopRules | None
) -> tuple[Json, list[str]]:
    """Collect what weakens the figures of all models alike: facts for a verdict, and a sentence each.

    Parameters
    ----------
    settings
        Of the verdict.
    view
        The recommender's view of the data.
    dataset
        The folder of the view's dataset.
    protocol
        The queries of the verdict.
    shop_rules
        None: there are none.

    Returns
    -------
    tuple
        Facts: `candidates` (`count_candidates`), `overlap` (`measure_overlap`), and with rules `rules`
        (`ShopRules.count_hidden`). And the warnings.
    """
    facts: Json = {
        "candidates": protocol.count_candidates(),
        "overlap": measure_overlap(dataset) if isinstance(settings.split, GivenSplit) else {},
    }
    checks = (_warn_of_later_training, warn_of_equal_times, warn_of_one_moment, warn_of_baskets)
    warnings = [check(settings, view) for check in checks]
    warnings += [_warn_of_no_baselines(settings), *warn_of_overlap(facts["overlap"])]
    warnings += warn_of_candidates(settings.evaluation, facts["candidates"])
    if shop_rules is not None:
        facts["rules"] = shop_rules.count_hidden(view)
        warnings.append(warn_of_rules(facts["rules"], len(protocol.predictions)))
        warnings += [warning["text"] for warning in find_rule_warnings(count_unmatched_rules(shop_rules.catalogue))]
    return facts, [warning for warning in warnings if warning]


def _warn_of_later_training(settings: JudgeSettings, view: View) -> str:
    if not isinstance(settings.split, LeaveOneOutSplit):
        return ""
    last, target_times = int(view.training.times.max()), view.test.times[view.test.offsets[1:] - 1]
    return (
        f"split.by is leave-one-out: {(target_times < last).sum():,} of {len(target_times):,} test events are earlier "
        "than the last training event, so models have seen what others did afterwards. This is the published protocol "
        "for such data. A split by time gives the figures to expect in service"
    )


def _warn_of_no_baselines(settings: JudgeSettings) -> str:
    if settings.baselines:
        return ""
    return "baselines: the list is empty. The baseline popularity was added, so that every figure has one beside it"
