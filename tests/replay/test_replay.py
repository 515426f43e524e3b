"""Answers are computed again bit for bit with what made them, and what is missing is named."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from endcap.cli.main import main
from endcap.online.base import RecentEvent
from endcap.pseudonyms import KEY as KEY_VARIABLE
from endcap.pseudonyms import Pseudonymiser
from endcap.ranking import Answer, PrecomputedList, Ranker, ShopperContext
from endcap.replay import ReplayReport, replay
from endcap.replay.comparison import compare_answers
from endcap.replay.metrics import ReplayMetrics
from endcap.replay.reasons import EQUAL, KEY_DIFFERS, PACKAGE_GONE, ROUNDING, RULES_GONE, UNEXPLAINED
from endcap.rules import Catalogue
from endcap.samples import SampledRequest
from endcap.samples.files import get_day, name_catalogue
from endcap.samples.places import open_place
from endcap.spec.rules import Rules
from endcap.store import Store
from tests.replay.conftest import Shop
from tests.replay.recorded import KEY, record_answers, tamper, write_samples
from tests.samples.examples import make_sample

NOON = 1_711_108_800_000
"""2024-03-22 12:00 UTC."""
SINCE, UNTIL = datetime(2024, 3, 22, tzinfo=UTC), datetime(2024, 3, 23, tzinfo=UTC)
LETTERS = "abcxyz"


def ask(seed: int, count: int) -> tuple[list[dict[str, Any]], list[ShopperContext]]:
    """Requests of every form, with what the online store said."""
    chance = random.Random(seed)

    def choose() -> list[str]:
        return chance.choices([*LETTERS, "unknown"], k=chance.randint(1, 4))

    requests: list[dict[str, Any]] = []
    contexts = []
    for number in range(count):
        brought: list[dict[str, Any]] = [
            {"items": choose()},
            {"events": [{"item": item, "type": "view"} for item in choose()]},
            {"item": chance.choice(LETTERS)},
            {"customer": f"c{number % 3}"},
            {"session": "s", "customer": "c1", "candidates": choose(), "exclude": ["a"]},
            {"customer": "c2", "precomputed": True, "k": 2},
        ]
        requests.append(brought[number % len(brought)])
        events = [RecentEvent(item, NOON - 100 + place, "view") for place, item in enumerate(choose())]
        stored = PrecomputedList(["b", "a", "x"], [0.5, 0.25, None]) if "precomputed" in requests[-1] else None
        known = ShopperContext(events, {"c"}, stored, True) if number % 4 else ShopperContext(store_unavailable=True)
        contexts.append(known)
    return requests, contexts


def sample_answers(
    ranker: Ranker, name: str, count: int = 120, catalogue: Catalogue | None = None, seed: int = 7
) -> list[SampledRequest]:
    requests, contexts = ask(seed, count)
    times = [NOON + 10 * number for number in range(count)]
    return record_answers(
        ranker, requests, version="1", times=times, contexts=contexts, recommender=name, catalogue=catalogue
    )


def run(shop: Shop, samples: Path, name: str = "home", key: Pseudonymiser | None = KEY) -> ReplayReport:
    return replay(name, shop.store, shop.registry, str(samples), SINCE, UNTIL, pseudonymiser=key)


def read_metric(store: Store, name: str) -> dict[tuple[str, ...], float]:
    (metric,) = (metric for metric in ReplayMetrics(store).read() if metric.name == name)
    samples = [sample for sample in metric.samples if sample.labels["recommender"] == "home"]
    return {tuple(list(sample.labels.values())[1:]): sample.value for sample in samples}


def count_outcomes(report: ReplayReport) -> dict[str, int]:
    return dict(report.checks["model"].answers)


@pytest.mark.parametrize("name", ["home", "mine"])
def test_answers_are_equal_bit_for_bit(name: str, shop: Shop, tmp_path: Path) -> None:
    package = {"home": shop.home, "mine": shop.mine}[name]
    write_samples(str(tmp_path), sample_answers(package.ranker, name))
    report = run(shop, tmp_path, name)
    assert count_outcomes(report) == {EQUAL: 120}
    assert (report.answers, report.versions, report.unexplained) == (120, {"1": 120}, 0)


def test_an_answer_that_was_changed_is_unexplained(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = sample_answers(shop.home.ranker, "home")
    changed = next(place for place, sample in enumerate(samples) if len(sample.items) > 2)
    samples[changed] = tamper(samples[changed])
    write_samples(str(tmp_path), samples)
    options = ["replay", "home", "--samples", str(tmp_path), "--store", shop.store.root, "--json"]
    times = ["--since", SINCE.isoformat(), "--until", UNTIL.isoformat()]
    with pytest.raises(SystemExit) as ended:
        main([*options, *times])
    assert ended.value.code == 4
    document = json.loads(capsys.readouterr().out)
    model = document["checks"]["model"]
    assert model["answers"] == {EQUAL: 119, UNEXPLAINED: 1}
    assert model["examples"][UNEXPLAINED][0]["ranking_id"] == samples[changed].ranking_id
    assert document["unexplained"] == 1
    assert read_metric(shop.store, "endcap_replay_passed") == {(): 0.0}
    assert read_metric(shop.store, "endcap_replay_answers")["model", UNEXPLAINED] == 1
    main([*options, *times, "--allow", "0.01"])
    main([*options[:-1], *times, "--allow", "0.01"])
    assert read_metric(shop.store, "endcap_replay_passed") == {(): 1.0}
    assert set(read_metric(shop.store, "endcap_replay_answers")) >= {("rules", UNEXPLAINED), ("log", UNEXPLAINED)}


def test_the_rules_of_then_hold(shop: Shop, tmp_path: Path) -> None:
    table = pa.table({"item": list(LETTERS)})
    catalogues = [Catalogue(Rules(), table, frozenset(hidden), NOON) for hidden in ("a", "xy")]
    for number, catalogue in enumerate(catalogues):
        ranker = shop.home.ranker.with_catalogue(catalogue)
        write_samples(str(tmp_path), sample_answers(ranker, "home", 60, catalogue, seed=number), number)
        name = name_catalogue("home", get_day(NOON), catalogue.version)
        open_place(str(tmp_path)).write(name, catalogue.to_bytes())
    assert count_outcomes(run(shop, tmp_path)) == {EQUAL: 120}
    open_place(str(tmp_path)).remove([name])
    report = run(shop, tmp_path)
    assert count_outcomes(report) == {EQUAL: 60, RULES_GONE: 60}
    assert report.unexplained == 0


def test_customers_of_a_model_need_the_key_of_the_samples(shop: Shop, tmp_path: Path) -> None:
    samples = sample_answers(shop.mine.ranker, "mine")
    write_samples(str(tmp_path), samples)
    named = sum(sample.customer is not None for sample in samples)
    for key in (None, Pseudonymiser(b"another key than that")):
        assert count_outcomes(run(shop, tmp_path, "mine", key)) == {EQUAL: 120 - named, KEY_DIFFERS: named}


def test_a_package_that_is_gone_is_named(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = sample_answers(shop.home.ranker, "home", 6)
    write_samples(str(tmp_path), [*samples, *(replace(sample, version="7") for sample in samples)])
    report = run(shop, tmp_path)
    assert count_outcomes(report) == {EQUAL: 6, PACKAGE_GONE: 6}
    assert report.unexplained == 0


def test_a_time_without_samples_is_an_error(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a key of the tests only")
    options = ["--samples", str(tmp_path), "--store", shop.store.root, "--json"]
    turned = ["--since", "2024-03-02", "--until", "2024-03-01"]
    for more, code in (([], "replay.no-samples"), (turned, "cli.times-turned")):
        with pytest.raises(SystemExit) as ended:
            main(["replay", "home", *options, *more])
        assert ended.value.code == 2
        assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_rounding_is_told_from_another_answer() -> None:
    sample = make_sample(items=["a", "b", "c", "d"], scores=[3.0, 2.0, 2.0 - 2**-22, None], unknown=0)

    def compare(items: str, scores: list[float | None]) -> str:
        return compare_answers(sample, Answer(list(items), scores, reason="few-scores"))

    assert compare("abcd", [3.0, 2.0, 2.0 - 2**-22, None]) == EQUAL
    assert compare("acbd", [3.0, 2.0, 2.0 - 2**-22, None]) == ROUNDING
    assert compare("abcd", [3.0, 2.0, 2.0, None]) == ROUNDING
    assert compare("abed", [3.0, 2.0, 2.0, None]) == ROUNDING
    assert compare("abed", [3.0, 2.0, 2.0 - 2**-22, None]) == UNEXPLAINED
    assert compare("abce", [3.0, 2.0, 2.0 - 2**-22, None]) == UNEXPLAINED
    assert compare("abcd", [3.0, 2.0, 1.9, None]) == UNEXPLAINED
    assert compare("bacd", [3.0, 2.0, 2.0 - 2**-22, None]) == UNEXPLAINED
    assert compare("abc", [3.0, 2.0, 2.0 - 2**-22]) == UNEXPLAINED
