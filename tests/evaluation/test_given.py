"""The next item among the items that a file names for its customer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from endcap.errors import DataError
from endcap.evaluation.candidate_counts import warn_of_candidates
from endcap.evaluation.given_candidates import read_given_candidates
from endcap.evaluation.protocol import EvaluationProtocol
from endcap.evaluation.ranks import rank_predictions
from endcap.evaluation.scoring import EvaluatedModel
from endcap.features.sessions import Sessions
from endcap.features.view import open_view
from endcap.features.vocabulary import Vocabulary
from endcap.pseudonyms import KEY, Pseudonymiser
from endcap.spec.evaluation import GivenNegatives
from endcap.spec.load import load
from endcap.store import Store
from tests.evaluation.conftest import AfterLast, every, last
from tests.evaluation.test_negatives import of_customers
from tests.features.logs import dataset, event, recommender
from tests.refusals import refused

CUSTOMERS = pa.array(["ann", "bob", "cid"])
ITEMS = Vocabulary(["a", "b", "c", "d", "e"])
ALL_TIED = AfterLast(np.ones((5, 5)))


def given(file: Path, text: str, **columns: str) -> GivenNegatives:
    file.write_text(text)
    return GivenNegatives(path=str(file), **columns)


def test_each_prediction_has_its_customer_s_items_less_what_it_asks_for(tmp_path: Path) -> None:
    text = "user\titem\nbob\te\nbob\tb\nbob\tb\nann\tc\nnobody\ta\nann\tunknown\nbob\td\n"
    rules = given(tmp_path / "test.tsv", text, customer="user")
    test = of_customers(Sessions.of([[0, 3], [0, 1, 4]]), [0, 1])
    items = read_given_candidates(rules, test, CUSTOMERS, ITEMS)
    assert items.select(every(test)).tolist() == [[[2, -1, -1], [-1, 3, 4], [1, 3, -1]]]
    (block,) = rank_predictions(EvaluatedModel(ALL_TIED), last(test), 3, negatives=items)
    # All tie, so lists are in the items' order: d among c and d, e among b, d and e.
    assert block.listed.tolist() == [[2, 3, -1], [1, 3, 4]]
    assert block.ranks.tolist() == [2, 3]
    # Less the item that is asked for, where it is named.
    assert items.count(every(test)).tolist() == [1, 2, 2]
    assert items.unknown == 1


def test_a_file_with_plain_ids_fits_a_dataset_with_pseudonyms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "the key of this test, no secret")
    maker = Pseudonymiser(b"the key of this test, no secret")
    rules = given(tmp_path / "test.csv", f"customer,item\nann,c\n{maker.pseudonymise('bob')},e\n")
    hidden = pa.array([maker.pseudonymise(customer) for customer in CUSTOMERS.to_pylist()])
    items = read_given_candidates(rules, of_customers(Sessions.of([[0, 3], [0, 1]]), [0, 1]), hidden, ITEMS)
    assert items.items.tolist() == [2, 4]


@pytest.mark.parametrize("customers", [[0, 2], [0, -1]])
def test_a_customer_without_items_would_win_for_nothing_and_is_refused(tmp_path: Path, customers: list[int]) -> None:
    rules = given(tmp_path / "test.csv", "customer,item\nann,c\nbob,d\n")
    test = of_customers(Sessions.of([[0, 3], [0, 1]]), customers)
    with refused(DataError, "evaluation.items-missing", path=rules.path, without=1, sessions=2):
        read_given_candidates(rules, test, CUSTOMERS, ITEMS)


def test_an_id_that_is_not_of_the_encoding_is_refused(tmp_path: Path) -> None:
    rules = given(tmp_path / "test.csv", "")
    test = of_customers(Sessions.of([[0, 3]]), [0])
    rows = "customer,item,note\nann,c,caf\xe9\n"
    Path(rules.path).write_bytes(rows.encode("latin-1"))
    assert read_given_candidates(rules, test, CUSTOMERS, ITEMS)
    Path(rules.path).write_bytes(f"{rows}ann,caf\xe9,x\n".encode("latin-1"))
    with refused(DataError, "evaluation.row-malformed", line=3):
        read_given_candidates(rules, test, CUSTOMERS, ITEMS)


def test_a_file_without_the_columns_says_which_there_are(tmp_path: Path) -> None:
    rules = given(tmp_path / "test.csv", "user,item\nann,c\n")
    with refused(DataError, "evaluation.column-missing", column="customer", found=["user", "item"]):
        read_given_candidates(rules, of_customers(Sessions.of([[0, 3]]), [0]), CUSTOMERS, ITEMS)


def test_a_spec_names_the_file_beside_it_and_models_are_measured_so(store: Store, tmp_path: Path) -> None:
    (tmp_path / "negatives.csv").write_text("customer,item\nc1,b\nc2,a\n")
    (tmp_path / "shop.yaml").write_text(
        "apiVersion: endcap/v2\nkind: Shop\nname: shop\nevents: {sources: [{path: x.csv}], columns: {session: s}}\n"
    )
    (tmp_path / "test.yaml").write_text(
        "apiVersion: endcap/v2\nkind: Recommender\nname: test\nshop: ./shop.yaml\nmodel: {name: popularity}\n"
        "split: {by: leave-one-out}\nevaluation: {cutoffs: [1], negatives: {path: negatives.csv}}\n"
        "gate: []\n"
    )
    loaded = load(tmp_path / "test.yaml").recommender
    rules = loaded.evaluation.negatives
    assert isinstance(rules, GivenNegatives)
    assert rules.path == str(tmp_path / "negatives.csv")
    rows: list[dict[str, Any]] = [event("s1", item, place, "c1") for place, item in enumerate("bca")]
    rows += [event("s2", item, place, "c2") for place, item in enumerate("abc")]
    folder = dataset(store, rows)
    wanted = recommender(split={"by": "leave-one-out"}, evaluation=loaded.evaluation.model_dump(), gate=[])
    view = open_view(folder, wanted)
    examination = EvaluationProtocol(wanted, view, folder)
    # Of the vocabulary b, a, c: b before a for c1, a before c for c2.
    assert view.vocabulary.ids == ["b", "a", "c"]
    examination.measure("challenger", EvaluatedModel(AfterLast(np.ones((3, 3)))))
    assert examination.compare_results().metrics["challenger"]["hr@1"].value == 0
    found = examination.count_candidates()
    assert {name: found[name] for name in ("targets", "least", "most", "within", "unknown")} == {
        "targets": 2,
        "least": 1,
        "most": 1,
        "within": 0,
        "unknown": 0,
    }
    # A few items are no catalogue, and two of three are nearly all of it.
    assert len(warn_of_candidates(wanted.evaluation, found)) == 2
