"""Whatever is asked, the ranker's answer is what a few lines of plain Python say, alone and among others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.features.vocabulary import Vocabulary
from endcap.ranking import Answer, PrecomputedList, Ranker, RankRequest, ShopperContext
from endcap.rules import Catalogue, Rulebook
from endcap.spec.recommender import Exclude
from endcap.spec.rules import Rules
from tests.ranking.fixed import FixedScores

IDS = [f"i{number}" for number in range(24)]
NEW = ["n0", "n1"]
UNHEARD = ["?", "??"]
BRANDS = dict(zip([*IDS, *NEW], ["Fen", "Orn", None] * 9, strict=False))
CATEGORIES = dict(zip([*IDS, *NEW], ["boots", "hats", "socks", "socks"] * 7, strict=False))
BLACKLIST = frozenset({"i3", "n1", "i11"})
EXCLUDES: list[Exclude] = ["none", "last", "seen"]
RULES = Rules.model_validate(
    {
        "blacklist": {"sources": [{"path": "/b.csv"}]},
        "attributes": [
            {"name": "no-socks", "attribute": "category", "never": ["socks"], "surfaces": ["home"]},
            {"name": "brands", "attribute": "brand", "only": ["Fen", "Orn"], "surfaces": ["brand page"]},
        ],
    }
)
TABLE = pa.table({"item": [*IDS, *NEW], "brand": list(BRANDS.values()), "category": list(CATEGORIES.values())})


def scores() -> np.ndarray[Any, Any]:
    """Few values, so that many are equal, and some that are no opinion."""
    drawn = np.random.default_rng(5).choice([1.5, 2.0, -3.0, 0.0, -np.inf, np.nan], size=(len(IDS), len(IDS)))
    return drawn.astype(np.float32)


SCORES = scores()
RANKERS = {
    exclude: Ranker(
        FixedScores(SCORES),
        Vocabulary(IDS),
        TABLE.slice(0, len(IDS)),
        exclude=exclude,
        rulebook=Rulebook(Vocabulary(IDS), TABLE.slice(0, len(IDS)), Catalogue(RULES, TABLE, BLACKLIST)),
    )
    for exclude in EXCLUDES
}

some_ids = st.lists(st.sampled_from([*IDS, *NEW, *UNHEARD]), max_size=12)
asked = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(st.sampled_from([*IDS, *NEW, *UNHEARD]), min_size=1, max_size=30),
        "category": st.sampled_from(["boots", "hats", "socks"]),
        "filter": st.dictionaries(
            st.just("brand"), st.lists(st.sampled_from(["Fen", "Orn"]), min_size=1, max_size=2), max_size=1
        ),
        "exclude": some_ids,
        "k": st.integers(1, 30),
        "surface": st.sampled_from(["home", "brand page", "elsewhere"]),
        "explain": st.just(True),
    },
)
sessions = st.one_of(
    st.builds(lambda items: {"items": items}, some_ids), st.builds(lambda item: {"item": item}, st.sampled_from(IDS))
)
requests = st.builds(lambda rest, session: RankRequest(**rest, **session), asked, sessions)
known = st.builds(lambda owned: ShopperContext(owned=owned), some_ids)


def why_not(request: RankRequest, told: ShopperContext, exclude: Exclude, item: str) -> str | None:
    """The first rule that takes an item away."""
    session = [request.item] if request.item is not None else request.items or []
    own = {"none": [], "last": session[-1:], "seen": session}[exclude]
    # The last item that the model knows, where the last one of all is none.
    own = own + [one for one in session if one in IDS][-1:] if exclude == "last" else own
    if item in BLACKLIST:
        return "blacklist"
    if request.surface == "home" and CATEGORIES.get(item) == "socks":
        return "no-socks"
    if request.surface == "brand page" and BRANDS.get(item) is None:
        return "brands"
    return "owned" if item in told.owned else "session" if item in own else None


def plain(request: RankRequest, told: ShopperContext, exclude: Exclude) -> tuple[list[str], list[float | None]]:
    def fits(item: str) -> bool:
        values = {"category": CATEGORIES.get(item), "brand": BRANDS.get(item)}
        return (
            why_not(request, told, exclude, item) is None
            and item not in [*request.exclude, request.item]
            and (request.category is None or values["category"] == request.category)
            and all(values[name] in wanted for name, wanted in request.filters.items())
        )

    session = [request.item] if request.item is not None else request.items or []
    last = [item for item in session if item in IDS][-1:]
    row = SCORES[IDS.index(last[0])] if last else np.full(len(IDS), -np.inf)
    score = dict(zip(IDS, row.tolist(), strict=True))
    pool = [item for item in dict.fromkeys(request.candidates or IDS) if fits(item)]
    known = sorted((item for item in pool if item in score), key=IDS.index)
    scored = sorted((item for item in known if score[item] > -math.inf), key=lambda item: -score[item])
    others = [item for item in known if item not in scored] + [item for item in pool if item not in score]
    ids = [*scored, *others][: request.k or 20]
    return ids, [score[item] if item in scored else None for item in ids]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(requests, known), min_size=1, max_size=4), st.sampled_from(EXCLUDES))
def test_an_answer_is_what_plain_python_says(batch: list[tuple[RankRequest, ShopperContext]], exclude: Exclude) -> None:
    answers = RANKERS[exclude].rank([request for request, _ in batch], contexts=[told for _, told in batch])
    for (request, told), answer in zip(batch, answers, strict=True):
        assert (answer.ids, answer.scores) == plain(request, told, exclude)
        if request.explain and request.candidates:
            rules = {item: why_not(request, told, exclude, item) for item in request.candidates}
            assert answer.removed is not None
            assert {one["item"]: one["rule"] for one in answer.removed} == {i: why for i, why in rules.items() if why}
        assert _alone(request, told, exclude) == answer


def _alone(request: RankRequest, told: ShopperContext, exclude: Exclude) -> Answer:
    (answer,) = RANKERS[exclude].rank([request], contexts=[told])
    return answer


@settings(max_examples=100, deadline=None)
@given(requests, st.permutations([*IDS, *UNHEARD]), st.integers(0, 24), st.sampled_from(EXCLUDES))
def test_a_batchs_list_is_cut_by_the_same_rules(
    request: RankRequest, order: list[str], length: int, exclude: Exclude
) -> None:
    """A list that scores as the ranker would is as good as asking it: what may be shown is the same."""
    listed = PrecomputedList(order[:length], np.linspace(1, 0, length).tolist())
    wanted = request.model_copy(update={"precomputed": True, "customer": "c"})
    (answer,) = RANKERS[exclude].rank([wanted], contexts=[ShopperContext(stored_list=listed)])
    everything = request.model_copy(update={"k": 30})
    may_be_shown = set(plain(everything, ShopperContext(), exclude)[0])
    kept = [item for item in listed.items if item in may_be_shown and item in IDS][: request.k or 20]
    if len(kept) == (request.k or 20):
        assert (answer.ids, answer.precomputed) == (kept, True)
    else:
        assert (answer.ids, answer.precomputed) == (plain(request, ShopperContext(), exclude)[0], False)
