"""The section `rollout:` of a recommender: its defaults, and what its keys have to do with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from endcap.spec.base import Strict
from endcap.spec.rollout import PromotionGuard, RolloutSpec, ShareStep
from endcap.spec.rollout_metrics import (
    AddToCartSpec,
    ConversionSpec,
    CtrSpec,
    EmptyAnswersGuardrailSpec,
    ErrorsGuardrailSpec,
    FallbacksGuardrailSpec,
    LatencyGuardrailSpec,
    RevenueSpec,
    ScoreDriftGuardrailSpec,
)

DOCS = Path(__file__).parents[2] / "docs"


def test_an_empty_section_is_a_whole_policy() -> None:
    policy = RolloutSpec.model_validate({})
    assert policy.metric_budgets == pytest.approx({"ctr": 0.025, "conversion": 0.0125, "revenue": 0.0125})
    assert policy.deciding_metric.name == "ctr"
    assert policy.allowed_loss == -0.03
    assert policy.shares == [0.01, 0.05, 0.1, 0.25, 0.5]
    assert [step.worst for step in policy.share_steps] == [-0.5, -0.35, -0.25, -0.15]
    assert policy.shadow is None
    assert policy.approval == "none"
    assert set(policy.guardrail_budgets) == {"errors", "latency", "empty-answers", "fallbacks"}


def test_the_usual_steps_begin_above_the_first_share() -> None:
    assert RolloutSpec.model_validate({"first_share": 0.1}).shares == [0.1, 0.25, 0.5]
    assert RolloutSpec.model_validate({"first_share": 0.1, "steps": []}).shares == [0.1]


def test_what_a_policy_is_written_as_is_read_as_the_same() -> None:
    policy = RolloutSpec.model_validate({"promote": "superior", "metrics": [{"kind": "ctr", "first": 3}]})
    assert RolloutSpec.model_validate(policy.model_dump(mode="json", exclude_none=True)) == policy
    assert policy.allowed_loss == 0.0


def test_metrics_without_a_budget_share_what_the_others_leave() -> None:
    metrics: list[dict[str, Any]] = [{"kind": "ctr", "budget": 0.5}, {"kind": "add_to_cart"}, {"kind": "conversion"}]
    budgets = RolloutSpec.model_validate({"metrics": metrics, "error_budget": 0.1}).metric_budgets
    assert budgets == pytest.approx({"ctr": 0.05, "add-to-cart": 0.025, "conversion": 0.025})


def test_the_metric_that_decides_is_the_one_that_the_policy_names() -> None:
    policy = RolloutSpec.model_validate({"promote_by": "conversion"})
    assert policy.deciding_metric.name == "conversion"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"promote": "superior", "margin": 0.02}, "rollout.promote is 'superior'"),
        ({"promote_by": "convertion"}, "a metric's name: ctr, conversion, revenue"),
        ({"metrics": [{"kind": "ctr"}, {"kind": "ctr"}]}, "'ctr' again"),
        ({"guardrails": [{"kind": "latency"}, {"kind": "latency", "quantile": 0.5}]}, "'latency' again"),
        ({"metrics": [{"kind": "ctr", "budget": 1.0}, {"kind": "revenue"}]}, "nothing is left"),
        ({"metrics": [{"kind": "ctr", "budget": 0.8}, {"kind": "revenue", "budget": 0.8}]}, "add up to 1.6"),
        ({"first_share": 0.2, "steps": [{"share": 0.2, "worst": -0.3}]}, "rollout.first_share is 0.2"),
        ({"steps": [{"share": 0.2, "worst": -0.3}, {"share": 0.5, "worst": -0.3}]}, "must leave less risk"),
        ({"longest": "20m"}, "settles after 35m"),
        ({"look_every": "0s"}, "above 0"),
        ({"look_every": "15d"}, "at most rollout.longest"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RolloutSpec.model_validate(section)
    assert words in str(caught.value)


def test_the_guides_policies_are_right() -> None:
    blocks = (DOCS / "rollouts.md").read_text(encoding="utf-8").split("```yaml\n")[1:]
    documents = [yaml.safe_load(block.split("```")[0]) for block in blocks]
    policies = [document["rollout"] for document in documents if "rollout" in document]
    assert policies
    for policy in policies:
        RolloutSpec.model_validate(policy)


PARTS: tuple[type[Strict], ...] = (
    *(RolloutSpec, ShareStep, PromotionGuard, CtrSpec, AddToCartSpec, ConversionSpec, RevenueSpec),
    *(ErrorsGuardrailSpec, EmptyAnswersGuardrailSpec, FallbacksGuardrailSpec, LatencyGuardrailSpec),
    ScoreDriftGuardrailSpec,
)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_the_reference_lists_every_key_and_kind(part: type[Strict]) -> None:
    reference = (DOCS / "rollout-reference.md").read_text(encoding="utf-8")
    kind = part.model_json_schema()["properties"].get("kind", {}).get("const", "kind")
    words = {kind, *part.model_fields}
    assert {word for word in words if f"`{word}" not in reference and f".{word}`" not in reference} == set()
