"""How many items each target is ranked among, if not the whole catalogue."""

from __future__ import annotations

from typing import Any

from endcap.features.sessions import Ints
from endcap.spec.evaluation import Evaluation, GivenNegatives, SampledNegatives

NEARLY_ALL = 0.5
"""If models rank this mean share of the catalogue or more, sampling makes no sense, and a warning says so."""
Json = dict[str, Any]


def count_candidates(sizes: Ints, rules: SampledNegatives | GivenNegatives, items: int, cutoff: int) -> Json:
    """Count what targets compete with.

    Parameters
    ----------
    sizes
        int64 [p]: how many items each target competes with.
    rules
        The spec's `evaluation.negatives`.
    items
        Size of the catalogue.
    cutoff
        The deepest cutoff.

    Returns
    -------
    dict
        `targets`; `least`, `most`, `mean`: what they compete with; `fewer`: targets with fewer items than the spec
        draws; `share`: the mean share of the catalogue that is ranked, the target included; `cutoff`; `within`: targets
        that are among the first `cutoff` wherever a model ranks them. Empty without targets. A verdict stores it.
    """
    if not len(sizes):
        return {}
    wanted_count = rules.count if isinstance(rules, SampledNegatives) else 0
    return {
        "targets": len(sizes),
        "least": int(sizes.min()),
        "most": int(sizes.max()),
        "mean": float(sizes.mean()),
        "fewer": int((sizes < wanted_count).sum()),
        "share": float(sizes.mean() + 1) / items,
        "cutoff": cutoff,
        "within": int((sizes < cutoff).sum()),
    }


def warn_of_candidates(evaluation: Evaluation, facts: Json) -> list[str]:
    """Return sentences on figures that are of a few items only; none if models rank the whole catalogue."""
    rules = evaluation.negatives
    if rules is None or not facts:
        return []
    misleading = (
        f"evaluation.negatives: each target was ranked among {_describe_candidates(rules, facts)}, not among the "
        "catalogue. Such figures mislead: they cannot be compared with figures for the whole catalogue, and they may "
        "put the worse of two models ahead (Krichene and Rendle, 2020)"
    )
    warnings = [misleading]
    if facts["share"] >= NEARLY_ALL:
        warnings.append(
            f"evaluation.negatives: models rank {facts['share']:.0%} of the catalogue on average. Leave "
            "evaluation.negatives out: models then rank the whole catalogue, as in service"
        )
    if facts["within"]:
        warnings.append(
            f"evaluation.negatives: for {facts['within']:,} of {facts['targets']:,} targets no more than "
            f"{facts['cutoff']:,} items are ranked. Every model that scores such a target hits it at the cutoff "
            f"{facts['cutoff']:,}"
        )
    if isinstance(rules, GivenNegatives) and facts["unknown"]:
        warnings.append(
            f"evaluation.negatives: {facts['unknown']:,} rows of {rules.path} were left out. They name items that the "
            "training part lacks, for customers of the test"
        )
    return warnings


def _describe_candidates(rules: SampledNegatives | GivenNegatives, facts: Json) -> str:
    sizes = f"{facts['least']:,}" if facts["least"] == facts["most"] else f"{facts['least']:,} to {facts['most']:,}"
    if isinstance(rules, GivenNegatives):
        return f"the {sizes} items that {rules.path} names"
    draws = f"(mean of {rules.draws} draws)"
    if not facts["fewer"]:
        return f"{rules.count:,} sampled items {draws}"
    return (
        f"{sizes} sampled items {draws}; {facts['fewer']:,} of {facts['targets']:,} targets among fewer than "
        f"{rules.count:,}, because their customers had met all other items"
    )
