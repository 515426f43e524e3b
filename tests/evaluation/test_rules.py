"""A shop's rules in every list that is judged; verdicts with rules are in test_judge.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import DataError
from endcap.evaluation.ranks import rank_predictions
from endcap.evaluation.rule_masks import Ownership, ShopRules
from endcap.evaluation.scoring import EvaluatedModel, VocabularyTranslation, rank_histories
from endcap.features.queries import Baskets, select_targets
from endcap.features.sessions import Sessions
from endcap.features.vocabulary import Vocabulary
from endcap.ranking import Ranker, ShopperContext
from endcap.rules import Catalogue, Rulebook
from endcap.spec.rules import Rules
from tests.evaluation.conftest import AfterLast, every, last
from tests.refusals import refused

FALLING = AfterLast([[4, 3, 2, 1]] * 4)
"""Always item 0, then 1, 2 and 3."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of four items and two customers; the first bought b at 100 and at 300, the second d at 100."""
    pq.write_table(
        pa.table({"item": list("abcd"), "events": [4, 3, 2, 1], "stock": [0.0, 1, 1, 1]}), tmp_path / "items.parquet"
    )
    pq.write_table(pa.table({"customer": ["ann", "bob"]}), tmp_path / "customers.parquet")
    owned = {"customer": [0, 0, 1], "item": [1, 1, 3], "time": [100, 300, 100]}
    schema = pa.schema([("customer", pa.int32()), ("item", pa.int32()), ("time", pa.int64())])
    pq.write_table(pa.table(owned, schema), tmp_path / "owned.parquet")
    return tmp_path


def make_sessions(*sessions: tuple[int, int]) -> Sessions:
    """Sessions of the items d, c and d of these customers that begin then."""
    found = Sessions.of([[3, 2, 3]] * len(sessions), [[start, start + 1, start + 2] for _, start in sessions])
    return Sessions(found.items, found.times, found.offsets, np.array([who for who, _ in sessions], dtype=np.int32))


def house(folder: Path, rules: dict[str, Any], blacklist: str = "") -> ShopRules:
    return ShopRules.of(Catalogue(Rules.model_validate(rules), blacklist=frozenset(blacklist)), folder)


def test_what_customers_own_is_what_they_owned_before(folder: Path) -> None:
    def at(keep: int | None, *asked: tuple[int, int]) -> list[tuple[int, int]]:
        customers, moments = (np.array(column) for column in zip(*asked, strict=True))
        rows, items = Ownership.read(folder, keep).find_owned_at(customers.astype(np.int32), moments)
        return sorted(set(zip(rows.tolist(), items.tolist(), strict=True)))

    assert at(None, (0, 100), (-1, 999), (0, 101), (1, 250)) == [(2, 1), (3, 3)]
    assert at(50, (0, 120), (0, 200), (0, 350), (0, 351), (1, 150)) == [(0, 1), (2, 1), (4, 3)]


def test_rules_take_items_from_every_list_and_a_target_that_is_taken_is_a_miss(folder: Path) -> None:
    rules = house(folder, {"stock": {}, "owned": {"types": ["buy"]}}, blacklist="c")
    vocabulary = Vocabulary(list("abcd"))
    table = pq.read_table(folder / "items.parquet")
    competitor = EvaluatedModel(FALLING, mask=rules.build_mask(vocabulary, table))
    (block,) = rank_predictions(competitor, every(make_sessions((0, 200), (1, 200), (-1, 200))), 4)
    lists = [[item for item in row if item >= 0] for row in block.listed.tolist()]
    assert lists == [[3], [3], [1], [1], [1, 3], [1, 3]]
    assert block.targets.tolist() == [2, 3] * 3
    assert block.ranks.tolist() == [0, 1, 0, 0, 0, 2]
    assert rank_histories(competitor, make_sessions((0, 200)), 2).tolist() == [
        [3, -1]
    ]  # what is timed is what is judged


def test_before_a_next_basket_a_customer_owns_what_it_owned_as_that_began(folder: Path) -> None:
    """The history of the first customer begins before it bought b at 100, and the basket after that."""
    rules = house(folder, {"owned": {"types": ["buy"]}})
    competitor = EvaluatedModel(
        FALLING, mask=rules.build_mask(Vocabulary(list("abcd")), pq.read_table(folder / "items.parquet"))
    )
    history = make_sessions((0, 50))
    for begun, rank in ((52, 3), (200, 2)):
        baskets = Baskets(np.array([1]), np.array([begun]))
        (block,) = rank_predictions(competitor, select_targets(history, "basket", "sets", baskets), 4)
        # c, less d, which is of the basket too, and is behind it.
        assert (block.targets.tolist(), block.ranks.tolist()) == ([2, 3], [rank, rank])


def test_a_champion_with_another_vocabulary_obeys_the_same_rules(folder: Path) -> None:
    """It knows d, c, b, and e, which the test does not; that its own table says of e is in no stock."""
    rules = house(folder, {"stock": {}, "owned": {"types": ["buy"]}})
    own = Vocabulary(list("dcbe"))
    barred = rules.build_mask(own, pa.table({"item": list("dcbe"), "stock": [9.0, 9, 9, 0]}))
    champion = EvaluatedModel(FALLING, translation=VocabularyTranslation.between(list("abcd"), own.ids), mask=barred)
    (block,) = rank_predictions(champion, last(make_sessions((0, 200), (1, 200))), 4)
    assert block.tops.tolist() == [[0, 1, -1, -1], [1, 2, -1, -1]]
    assert block.listed.tolist() == [[3, 2, -1, -1], [2, 1, -1, -1]]


def test_a_dataset_that_does_not_know_what_is_owned_is_refused(folder: Path) -> None:
    (folder / "owned.parquet").unlink()
    with refused(DataError, "evaluation.owned-unknown", dataset=str(folder)):
        house(folder, {"owned": {"types": ["buy"]}})


def test_a_ranking_lists_what_was_judged(folder: Path) -> None:
    rules = house(folder, {"stock": {}, "owned": {"types": ["buy"]}}, blacklist="c")
    vocabulary, table = Vocabulary(list("abcd")), pq.read_table(folder / "items.parquet")
    (block,) = rank_predictions(
        EvaluatedModel(FALLING, mask=rules.build_mask(vocabulary, table)), every(make_sessions((0, 200), (-1, 200))), 4
    )
    ranker = Ranker(FALLING, vocabulary, table, rulebook=Rulebook(vocabulary, table, rules.catalogue))
    requests = [ranker.parse({"items": ["d", "c"][:length], "k": 4}) for length in (1, 2) * 2]
    answers = ranker.rank(requests, contexts=[ShopperContext(owned={"b"})] * 2 + [ShopperContext()] * 2)
    assert [answer.ids for answer in answers] == [["abcd"[item] for item in row if item >= 0] for row in block.listed]
