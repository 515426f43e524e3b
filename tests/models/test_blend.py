"""How a blend weighs its members."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from endcap.errors import DivergedError
from endcap.features.sessions import Sessions
from endcap.models import FitReport, Fitting, Validation, catalogue, ease, files, load, make
from endcap.models.blend import Blend
from endcap.models.opinion_pool import Scale
from endcap.models.popularity import Popularity
from endcap.progress import Notice
from endcap.spec.model import (
    BlendSpec,
    EASESpec,
    GRU4RecSpec,
    PopularitySpec,
    SequentialRulesSpec,
    SingleSpec,
    VSKNNSpec,
)
from tests.models.shapes import N_ITEMS, SMALL_GRU, SMALL_NEUMF, SMALL_SASREC, checkerboard
from tests.refusals import refused

SPEC = BlendSpec(members={"rules": SequentialRulesSpec(steps=3, last_events=1, norm="none"), "all": PopularitySpec()})
STATED = {
    "members": {"rules": {}, "all": {}},
    "weights": {"rules": 0.7, "all": 0.3},
    "scales": {"rules": {"kind": "votes", "temperature": 1.0}, "all": {"kind": "logits", "temperature": 0.01}},
}


class Faulty(Popularity):
    """Popularity, but for what is wrong with it."""

    fault: ClassVar[str] = "diverges"

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        super().fit(train, n_items, fitting)
        if self.fault == "diverges":
            raise DivergedError("the loss of epoch 2 is nan", code="models.diverged", epoch=2, loss="nan")
        return FitReport(
            {}, [{"epoch": 1, "loss": 1.0, "validation": np.nan}] if self.fault == "nan validation" else []
        )

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        scores = super().score(sessions)
        if self.fault == "nan scores":
            scores[:, 0] = np.nan
        return scores


def validation(sessions: Sessions) -> Validation:
    asked, wanted, _ = sessions.prefixes()
    return Validation(asked, wanted)


def fit_blend(spec: BlendSpec = SPEC, fitting: Fitting | None = None) -> tuple[Blend, FitReport]:
    blend = Blend(spec)
    fitting = fitting or Fitting(validation=validation(checkerboard(200, seed=8)))
    return blend, blend.fit(checkerboard(), N_ITEMS, fitting)


def make_blend(weights: dict[str, float]) -> Blend:
    return fit_blend(fitting=Fitting(settings={**STATED, "weights": weights}))[0]


def test_a_member_that_knows_more_weighs_more() -> None:
    blend, report = fit_blend()
    assert report.settings["weights"]["rules"] > 3 * report.settings["weights"]["all"] >= 0
    assert blend.weights == report.settings["weights"]
    values = report.settings["validation"]
    judged = validation(checkerboard(200, seed=8))
    assert values["next_ndcg@20"] == pytest.approx(judged.measure(blend))
    assert values["members"]["rules"] > values["members"]["all"]


def test_who_has_no_weight_is_not_fitted_saved_or_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Popularity, "fit", lambda *_: pytest.fail("it is fitted"))
    blend = make_blend({"rules": 0.8, "all": 0.0})
    assert list(blend.members()) == ["rules"]
    blend.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["rules"]
    loaded = Blend.load(tmp_path)
    assert (list(loaded.members()), loaded.weights) == (["rules"], {"rules": 0.8, "all": 0.0})
    asked = Sessions.of([[0, 2], [3]])
    np.testing.assert_array_equal(loaded.score(asked), blend.score(asked))


def test_a_member_without_weight_is_not_looked_at_when_a_blend_is_loaded(tmp_path: Path) -> None:
    make_blend({"rules": 0.7, "all": 0.3}).save(tmp_path)  # release 0.1.0 wrote all members
    description = files.describe(tmp_path)
    members = {**description["parameters"]["members"], "all": {"name": "custom", "class": "gone.away:Model"}}
    changed = {"parameters": {"members": members}, "weights": {"rules": 0.7, "all": 0.0}}
    files.write(tmp_path, {**description, **changed}, {})
    assert list(load(tmp_path).members()) == ["rules"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("diverges", "models.diverged"),
        ("nan validation", "models.no-numbers"),
        ("nan scores", "models.no-numbers"),
    ],
)
def test_a_member_that_goes_wrong_is_left_out(fault: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Faulty, "fault", fault)
    monkeypatch.setitem(catalogue._PLACES, "popularity", (__name__, "Faulty"))
    lines: list[str] = []
    fitting = Fitting(validation=validation(checkerboard(80, seed=8)), progress=lines.append)
    blend, report = fit_blend(fitting=fitting)
    assert (list(blend.members()), report.settings["weights"]["all"]) == (["rules"], 0.0)
    assert report.settings["left_out"]["all"]["code"] == code
    assert [line.fields["member"] for line in lines if isinstance(line, Notice)] == ["all"]
    again, _ = fit_blend(fitting=Fitting(settings=report.settings))
    asked = Sessions.of([[0, 2], [3]])
    np.testing.assert_array_equal(again.score(asked), blend.score(asked))


def test_a_blend_of_none_but_members_that_go_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue._PLACES, "popularity", (__name__, "Faulty"))
    two = BlendSpec(members={"a": PopularitySpec(), "b": PopularitySpec()})
    with refused(DivergedError, "models.diverged"):
        fit_blend(two)
    with refused(DivergedError, "models.diverged"):  # whose weight is known, and counts
        make_blend({"rules": 0.5, "all": 0.5})


@pytest.mark.parametrize("spec", [SMALL_GRU, SMALL_SASREC, SMALL_NEUMF])
def test_a_member_goes_on_from_the_checkpoint_of_its_fit_alone(spec: SingleSpec, tmp_path: Path) -> None:
    seen = validation(checkerboard(80, seed=8))
    codes = {"category": np.zeros(N_ITEMS, dtype=np.int64)}
    other = GRU4RecSpec(width=4, max_epochs=1, item_features=["category"])
    place = tmp_path / "blend" / "trained"
    place.mkdir(parents=True)
    report = make(spec).fit(checkerboard(), N_ITEMS, Fitting(seed=3, validation=seen, workspace=place))
    rows: list[str] = []

    def observe(row: Mapping[str, float]) -> bool:
        rows.extend(row)
        return True

    fitting = Fitting(seed=3, validation=seen, workspace=tmp_path / "blend", observe=observe, item_features=codes)
    _, whole = fit_blend(BlendSpec(members={"trained": spec, "other": other}), fitting)
    assert whole.found["members"]["trained"] == report.settings
    assert not any(name.startswith("trained/") for name in rows)


def test_a_dear_member_without_epochs_is_taken_from_its_fit_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ease, "DEAR", 2)
    spec, seen = EASESpec(regularisation=5.0), validation(checkerboard(80, seed=8))
    place = tmp_path / "ease"
    place.mkdir()
    alone = make(spec)
    alone.fit(checkerboard(), N_ITEMS, Fitting(seed=3, validation=seen, workspace=place))
    monkeypatch.setattr(ease, "_invert", lambda _: pytest.fail("it is fitted again"))
    fitting = Fitting(seed=3, validation=seen, workspace=tmp_path)
    _, report = fit_blend(BlendSpec(members={"ease": spec, "all": PopularitySpec()}), fitting)
    assert report.settings["validation"]["members"]["ease"] == pytest.approx(seen.measure(alone))
    with pytest.raises(pytest.fail.Exception):  # other data
        make(spec).fit(checkerboard(seed=2), N_ITEMS, Fitting(seed=3, validation=seen, workspace=place))


def test_what_was_found_is_taken_as_it_is() -> None:
    first, report = fit_blend()
    again, _ = fit_blend(fitting=Fitting(settings=report.settings))
    asked = Sessions.of([[0, 2], [3]])
    np.testing.assert_array_equal(again.score(asked), first.score(asked))


def test_without_validation_all_count_the_same_and_it_says_so() -> None:
    blend, lines = Blend(SPEC), []
    blend.fit(checkerboard(), N_ITEMS, Fitting(progress=lines.append))
    assert blend.weights == {"rules": 0.5, "all": 0.5}
    assert any("no validation sessions" in line for line in lines)


def test_what_one_member_has_no_opinion_on_the_others_decide() -> None:
    train = Sessions.of([[0, 1], [0, 1], [0, 2], [3, 2]])
    blend = Blend(BlendSpec(members={"rules": SequentialRulesSpec(steps=3), "neighbours": VSKNNSpec()}))
    blend.fit(train, 5, Fitting())
    scores = blend.score(Sessions.of([[0], []]))
    # After 0 the rules know 1 and 2, the neighbours 0 as well; nobody knows 3 or 4, nor anything of nothing.
    assert scores[0].argsort()[::-1][:3].tolist() == [1, 2, 0]
    assert (scores[0, 3:] == -np.inf).all()
    assert (scores[1] == -np.inf).all()


@pytest.mark.parametrize("kind", ["logits", "votes"])
def test_probabilities_add_up_to_one_or_are_nought(kind: str) -> None:
    scores = np.array([[1.0, 2.0, -np.inf], [-np.inf] * 3], dtype=np.float32)
    shares = Scale(kind, 1.0).compute_probabilities(scores)  # type: ignore[arg-type]
    expected = {"logits": [1 / (1 + np.e), np.e / (1 + np.e), 0], "votes": [1 / 3, 2 / 3, 0]}[kind]
    np.testing.assert_allclose(shares, [expected, [0, 0, 0]], rtol=1e-6)
