"""How many items each next one is ranked among, where a protocol asks for a few in place of the catalogue."""

from __future__ import annotations

from typing import Any

from endcap.features.sessions import Ints
from endcap.spec.recommender import Evaluation, GivenNegatives, SampledNegatives

NEARLY_ALL = 0.5
"""The mean share of the catalogue that is ranked, from which ranking a few is no protocol any more."""
Json = dict[str, Any]


def count_candidates(sizes: Ints, rules: SampledNegatives | GivenNegatives, items: int, cutoff: int) -> Json:
    """Of the items that each next one competes with (int64 [p]), out of a catalogue of so many.

    `targets`: next items. `least`, `most`, `mean`: what they compete with. `fewer`: how many of them with fewer than
    the spec draws. `share`: the mean share of the catalogue that is ranked, the next item too. `within`: how many are
    among the first `cutoff` wherever a model ranks them, since no more are ranked.
    """
    if not len(sizes):
        return {}
    asked = rules.count if isinstance(rules, SampledNegatives) else 0
    return {
        "targets": len(sizes),
        "least": int(sizes.min()),
        "most": int(sizes.max()),
        "mean": float(sizes.mean()),
        "fewer": int((sizes < asked).sum()),
        "share": float(sizes.mean() + 1) / items,
        "cutoff": cutoff,
        "within": int((sizes < cutoff).sum()),
    }


def warn_of_candidates(evaluation: Evaluation, facts: Json) -> list[str]:
    """That figures are of a few items, and what is wrong with these; nothing where the catalogue is ranked."""
    rules = evaluation.negatives
    if rules is None or not facts:
        return []
    misleading = (
        f"evaluation.negatives: each next item was ranked among {_among(rules, facts)}, not among the catalogue. Such "
        "figures mislead: they do not compare with those of the whole catalogue, and may put the worse of two models "
        "ahead (Krichene and Rendle, 2020)"
    )
    told = [misleading]
    if facts["share"] >= NEARLY_ALL:
        told.append(
            f"evaluation.negatives: {facts['share']:.0%} of the catalogue is ranked on average. Leave "
            "evaluation.negatives out: then all of it is, as in service"
        )
    if facts["within"]:
        told.append(
            f"evaluation.negatives: for {facts['within']:,} of {facts['targets']:,} next items no more than "
            f"{facts['cutoff']:,} items are ranked, so that at the cutoff {facts['cutoff']:,} every model that has an "
            "opinion hits"
        )
    if isinstance(rules, GivenNegatives) and facts["unknown"]:
        told.append(
            f"evaluation.negatives: {facts['unknown']:,} rows of {rules.path} name items that the training part lacks "
            "for customers of the test, and were left out"
        )
    return told


def _among(rules: SampledNegatives | GivenNegatives, facts: Json) -> str:
    sizes = f"{facts['least']:,}" if facts["least"] == facts["most"] else f"{facts['least']:,} to {facts['most']:,}"
    if isinstance(rules, GivenNegatives):
        return f"the {sizes} items that {rules.path} names"
    draws = f"(mean of {rules.draws} draws)"
    if not facts["fewer"]:
        return f"{rules.count:,} sampled items {draws}"
    return (
        f"{sizes} sampled items {draws}: {facts['fewer']:,} of {facts['targets']:,} next items among fewer than "
        f"{rules.count:,}, for no more were never met"
    )
