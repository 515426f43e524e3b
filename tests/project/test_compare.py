"""Models side by side: each asked the same, labelled, trained once, and nothing comes of it but figures."""

from __future__ import annotations

from typing import Any

import pytest

import endcap
from endcap.errors import UserError
from endcap.project.comparison import Comparison
from tests.refusals import refused


@pytest.fixture
def comparison(judged: endcap.Project) -> Comparison:
    return judged.compare("spec", "sequential-rules", wide={"name": "vsknn", "sample": 200})


def test_models_are_compared_on_the_same_predictions_as_a_verdict(
    judged: endcap.Project, comparison: Comparison
) -> None:
    assert comparison.labels == ["spec", "sequential-rules", "wide"]
    assert comparison.facts["labels"][:3] == comparison.labels
    assert set(comparison.facts["labels"]) >= {"popularity"}
    verdict = judged.evaluate()
    assert comparison.trained["spec"] == verdict.facts["trained"]
    for theirs, ours in (("challenger", "spec"), ("popularity", "popularity")):
        for name in ("mrr@20", "hr@20", "coverage@20"):
            assert comparison.metrics[ours][name] == verdict.metrics[theirs][name]
        assert comparison.facts["intervals"][ours] | {"p90_ms": 0} == verdict.facts["intervals"][theirs] | {"p90_ms": 0}
    assert comparison.facts["predictions"] == verdict.facts["predictions"]
    assert comparison.best == max(comparison.labels, key=lambda label: comparison.metrics[label]["mrr@20"])


def test_differences_are_from_the_first_with_paired_intervals(comparison: Comparison) -> None:
    assert "spec" not in comparison.differences
    for label in ("sequential-rules", "wide", "popularity"):
        value, lower, upper = comparison.differences[label]["mrr@20"]
        assert value == pytest.approx(comparison.metrics[label]["mrr@20"] - comparison.metrics["spec"]["mrr@20"])
        assert lower is not None
        assert upper is not None
        assert lower < value < upper
    row = comparison.to_pandas().set_index("model").loc["wide"]
    assert row["description"] == "vsknn sample=200"
    assert [row[f"mrr@20_difference{end}"] for end in ("", "_lower", "_upper")] == comparison.differences["wide"][
        "mrr@20"
    ]


def test_a_comparison_names_its_models_and_registers_nothing(judged: endcap.Project, comparison: Comparison) -> None:
    shown = str(comparison)
    assert "wide: vsknn sample=200" in shown
    assert "mrr@20 minus spec's" in shown
    assert "*" in shown
    page = comparison.report.read_text(encoding="utf-8")
    assert "wide: vsknn" in page
    assert "nothing was registered" in page
    assert len(judged.versions()) <= 1
    again = judged.compare("spec", "sequential-rules", wide={"name": "vsknn", "sample": 200})
    assert again.address == comparison.address


def test_a_baseline_that_is_compared_is_not_fitted_again(judged: endcap.Project) -> None:
    assert judged.compare("popularity", "spec").facts["labels"] == ["popularity", "spec"]
    order = judged.compare({"popularity": {"name": "vsknn"}}).facts["labels"]
    assert order == ["popularity", "popularity (baseline)"]


def test_a_model_without_a_label_is_called_by_its_name_or_its_settings(judged: endcap.Project) -> None:
    models: list[Any] = ["vsknn", {"name": "vsknn", "sample": 200}, {"name": "vsknn", "sample": 200}]
    assert judged.compare(*models).labels == ["vsknn", "vsknn sample=200", "vsknn sample=200 (2)"]
    with refused(UserError, "project.label-invalid", label="vsknn"):
        judged.compare("vsknn", vsknn={"name": "vsknn", "sample": 200})
    with refused(UserError, "project.label-invalid", label="a/b"):
        judged.compare({"a/b": "vsknn"})


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"split": {"by": "time", "test": "3d"}}, ["split.test"]),
        ({"exclude": "seen", "seed": 7}, ["seed", "exclude"]),
        ({"evaluation": {"cutoffs": [5, 20]}}, ["evaluation.cutoffs"]),
    ],
)
def test_a_project_with_another_split_seed_or_evaluation_is_refused(
    judged: endcap.Project, changes: dict[str, Any], keys: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        judged.compare("spec", other=judged.replace(**changes))
    assert error.value.code == "evaluation.not-comparable"
    assert error.value.fields["label"] == "other"
    assert error.value.fields["keys"] == keys


def test_a_wrong_setting_is_named_with_its_label(judged: endcap.Project) -> None:
    with pytest.raises(endcap.SpecError) as error:
        judged.compare("spec", big={"name": "vsknn", "sampel": 3})
    assert [(one.file, one.key) for one in error.value.problems] == [("big", "model.sampel")]
