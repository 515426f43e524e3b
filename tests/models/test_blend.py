"""How a blend weighs its members."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.features.sessions import Sessions
from endcap.models import Fitting, Validation
from endcap.models.blend import Blend
from endcap.models.pool import Scale
from endcap.spec.model import BlendSpec, PopularitySpec, SequentialRulesSpec, VSKNNSpec
from tests.models.shapes import N_ITEMS, checkerboard

SPEC = BlendSpec(members={"rules": SequentialRulesSpec(steps=3), "all": PopularitySpec()})


def validation(sessions: Sessions) -> Validation:
    asked, wanted, _ = sessions.prefixes()
    return Validation(asked, wanted)


def weighed(spec: BlendSpec = SPEC) -> tuple[Blend, dict[str, float]]:
    blend = Blend(spec)
    report = blend.fit(checkerboard(), N_ITEMS, Fitting(validation=validation(checkerboard(80, seed=8))))
    return blend, report.found["weights"]


def test_a_member_that_knows_more_weighs_more() -> None:
    blend, weights = weighed()
    assert weights["rules"] > 3 * weights["all"] >= 0
    assert blend.weights == weights


def test_a_blend_is_hardly_worse_than_its_members_on_what_it_was_weighed_by() -> None:
    blend, _ = weighed()
    judged = validation(checkerboard(80, seed=8))
    assert all(judged.measure(blend) > judged.measure(member) - 0.002 for member in blend.members().values())


def test_what_was_found_is_taken_as_it_is() -> None:
    first, _ = weighed()
    report = Blend(SPEC).fit(checkerboard(), N_ITEMS, Fitting(validation=validation(checkerboard(80, seed=8))))
    again = Blend(SPEC)
    again.fit(checkerboard(), N_ITEMS, Fitting(found=report.found))
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
    shares = Scale(kind, 1.0).probabilities(scores)  # type: ignore[arg-type]
    expected = {"logits": [1 / (1 + np.e), np.e / (1 + np.e), 0], "votes": [1 / 3, 2 / 3, 0]}[kind]
    np.testing.assert_allclose(shares, [expected, [0, 0, 0]], rtol=1e-6)
