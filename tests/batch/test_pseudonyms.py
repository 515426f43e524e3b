"""A version that was trained on pseudonyms: who asks with an id gets what a version of the ids would give."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap.errors import DataError, UserError
from endcap.events import ingest
from endcap.features import build
from endcap.pseudonyms import KEY, Pseudonymiser
from endcap.registry.direct_answers import answer_directly
from endcap.registry.package import load_package
from endcap.registry.popularity_package import pack_popularity
from endcap.store import Store, open_store
from tests.batch.given import WORDS, FakeRegistry, made, of, package, rows
from tests.features.logs import shop
from tests.refusals import refused

FIRST = "the first key of this test"
MAKER = Pseudonymiser(FIRST.encode())
SPEC = of("hidden", {"name": "ease", "history": "customer", "regularisation": 1.0})


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is made of one log: its dataset and package."""

    dataset: str
    package: str


@dataclasses.dataclass(frozen=True)
class Both:
    """One log, as it is and with pseudonyms."""

    store: Store
    plain: Kind
    hidden: Kind


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("both")
    lines = ["session,customer,item,time"]
    for number in range(24):
        lines += [
            f"s{number},c{number % 12},{item},{1_717_372_800_000 + 100_000 * number + 1000 * step}"
            for step, item in enumerate(WORDS[number % len(WORDS)])
        ]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    store = open_store(str(folder / "store"))
    columns = {"session": "session", "customer": "customer"}
    kinds = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, FIRST)
        for pseudonyms in (False, True):
            events = {"sources": [{"path": str(folder / "log.csv")}], "columns": columns, "time": {"unit": "ms"}}
            its = shop(events={**events, "pseudonyms": pseudonyms})
            dataset = build(its, ingest(its, store), store)
            kinds.append(Kind(dataset, package(store, SPEC, dataset, f"of-{pseudonyms}")))
        yield Both(store, *kinds)


def test_a_request_with_an_id_gets_the_answer_of_its_pseudonym(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, FIRST)
    plain, hidden = (load_package(both.store.fetch(kind.package)) for kind in (both.plain, both.hidden))
    assert hidden.info["pseudonyms"] == MAKER.key_id
    hidden.check()  # its example asks with a pseudonym
    request = hidden.ranker.parse({"items": [], "customer": "c1", "session": "s1"})
    assert (request.customer, request.session) == (MAKER.pseudonymise("c1"), MAKER.pseudonymise("s1"))
    answers = {
        customer: [
            answer_directly(each, {"items": [], "customer": asked, "k": 3}, online=None).answer.to_json()["items"]
            for each, asked in ((plain, customer), (hidden, customer), (hidden, MAKER.pseudonymise(customer)))
        ]
        for customer in ("c0", "c1", "c2", "nobody")
    }
    assert all(first == second == third for first, second, third in answers.values())
    assert len({json.dumps(first) for first, _, _ in answers.values()}) > 2


def test_a_package_does_not_load_without_its_key(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    load_package(both.store.fetch(both.plain.package))
    for package_ in (both.hidden.package, pack_popularity(both.hidden.package, both.store)):
        with refused(UserError, "pseudonyms.key-missing", variable=KEY):
            load_package(both.store.fetch(package_))
    monkeypatch.setenv(KEY, "the second key of this test")
    with refused(UserError, "pseudonyms.key-differs", expected=MAKER.key_id):
        load_package(both.store.fetch(both.hidden.package))


def test_lists_have_pseudonyms_and_are_those_of_the_ids(
    both: Both, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, FIRST)
    file = tmp_path / "customers.csv"
    file.write_text(f"customer\nc1\nc2\n{MAKER.pseudonymise('c3')}\ncust-of-nobody\n")
    results = []
    for kind in (both.plain, both.hidden):
        registry.versions["1"] = kind.package
        lists = made(SPEC, both.store, dataset=kind.dataset, customers=str(file))
        results.append({customer: row["items"] for customer, row in rows(both.store, lists.address).items()})
    assert set(results[0]) == {"c1", "c2"}
    assert results[1] == {
        **{MAKER.pseudonymise(customer): items for customer, items in results[0].items()},
        MAKER.pseudonymise("c3"): results[1][MAKER.pseudonymise("c3")],
    }
    assert "cust-of-nobody" not in json.dumps(both.store.manifest(lists.address))
    with refused(DataError, "batch.pseudonyms-differ", package=MAKER.key_id, dataset=None):
        made(SPEC, both.store, dataset=both.plain.dataset)
