"""What is judged on must not be learnt from: whatever the test part holds, all that is trained stays the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endcap.features.sessions import Sessions
from endcap.features.view import View, open_view
from endcap.models import Model
from endcap.models.fit import draw_validation, fit_watched, fit_with_settings
from endcap.spec import Recommender
from endcap.store import Store
from tests.features.logs import DAY, dataset, event, recommender, shop

HOUR = 3_600_000
ITEMS = 12
CUT = 6 * DAY
"""The test's first moment: a day before the last event."""
LAST = 7 * DAY - 1
Rows = list[dict[str, Any]]
MODELS: list[dict[str, Any]] = [
    {"name": "recent-popularity", "window": "2d"},
    {"name": "vsknn", "sample": 20, "neighbours": 5},
    {"name": "ease"},
    {"name": "gru4rec", "width": 8, "batch_size": 4, "negatives": 4, "max_epochs": 2},
]


def log(seed: int) -> Rows:
    """Forty sessions of ten customers over six days, one that reaches over the cut, and ten of the seventh."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(40):
        start = int(rng.integers(0, CUT - HOUR))
        rows += walk(rng, f"s{number}", start, int(rng.integers(2, 7)))
    rows += [event("over", f"i{rng.integers(ITEMS)}", CUT - HOUR + step * HOUR // 2, "c1") for step in range(6)]
    for number in range(10):
        rows += walk(rng, f"t{number}", int(rng.integers(CUT, LAST - HOUR)), 4)
    return [*rows, event("t9", "i1", LAST, "c2")]


def walk(rng: np.random.Generator, session: str, start: int, length: int) -> Rows:
    customer = f"c{rng.integers(10)}"
    return [event(session, f"i{rng.integers(ITEMS)}", start + 60_000 * step, customer) for step in range(length)]


def by_time(rows: Rows, rng: np.random.Generator) -> Rows:
    """Other items, some of them new, at other times; the last event stays where it is, since the cut hangs on it."""
    before = [row for row in rows if _since(row) < CUT]
    later = [row for row in rows if _since(row) >= CUT]
    changed = [{**row, "item": f"i{rng.integers(2 * ITEMS)}"} for row in later if rng.random() < 0.8]
    more = walk(rng, "new", CUT + 1, 5)
    return before + changed + more + [event("t9", "i23", LAST, "c9")]


def given(rows: Rows, rng: np.random.Generator) -> Rows:
    """The sessions of the seventh day are the test, and the test begins before the log does."""
    training = [row for row in rows if _since(row) < CUT]
    test = [walk(rng, f"g{number}", int(rng.integers(-DAY, DAY)), 4) for number in range(int(rng.integers(5, 9)))]
    return training + [{**row, "part": "test"} for row in itertools.chain(*test)]


def left_out(rows: Rows, rng: np.random.Generator) -> Rows:
    """Another last item for each session of three events and more, and at another time."""
    changed = [dict(row) for row in rows]
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row["session"], []).append(place)
    for its in places.values():
        its.sort(key=lambda place: rows[place]["time"])
        if len(its) > 2:
            changed[its[-1]] |= {"item": f"i{rng.integers(2 * ITEMS)}", "time": rows[its[-1]]["time"] + 5}
    return changed


def _since(row: dict[str, Any]) -> int:
    since: int = row["time"] - event("", "", 0)["time"]
    return since


SPLITS: dict[str, tuple[dict[str, Any], Callable[[Rows, np.random.Generator], Rows]]] = {
    "time": ({"by": "time", "test": "1d", "validation": "1d"}, by_time),
    "given": ({"by": "given", "validation": "1d"}, given),
    "leave-one-out": ({"by": "leave-one-out"}, left_out),
}
COMPLETE, NEXT = ({"protocol": "basket", "basket": form} for form in ("complete", "next"))


@pytest.mark.parametrize(
    ("by", "asked"),
    [(by, {}) for by in SPLITS] + [("time", COMPLETE), ("given", COMPLETE), ("time", NEXT), ("given", NEXT)],
    ids=lambda one: one if isinstance(one, str) else one.get("basket", "default"),
)
def test_whatever_the_test_part_holds_all_that_is_trained_stays_the_same(
    store: Store, tmp_path: Path, by: str, asked: dict[str, Any]
) -> None:
    split, alter = SPLITS[by]
    rows = log(seed=3)
    logs = [alter(rows, np.random.default_rng(seed)) for seed in (1, 2)]
    wanted = recommender(split=split, model=MODELS[0], evaluation=asked)
    table = {"item": [f"i{number}" for number in range(2 * ITEMS)], "category": ["even", "odd"] * ITEMS}
    one, other = (open_view(dataset(store, its, shop(), items=table), wanted) for its in logs)
    assert list_part(one.test) != list_part(other.test), "the test must differ for this to say anything"
    # What models and their validation are given, and the item attributes that they may be given too.
    assert one.vocabulary.ids == other.vocabulary.ids
    assert one.items.equals(other.items)
    for part in ("train", "training", "validation"):
        assert list_part(getattr(one, part)) == list_part(getattr(other, part)), part
    first, second = (draw_validation(view, "none", 1) for view in (one, other))
    assert first is not None
    assert second is not None
    assert list_part(first.asked) == list_part(second.asked)
    assert first.wanted.tolist() == second.wanted.tolist()
    for number, model in enumerate(MODELS):
        with_it = recommender(split=split, model=model, evaluation=asked)
        saved = [
            artifacts(learnt(with_it, view), tmp_path / f"{number}-{name}") for name, view in enumerate((one, other))
        ]
        assert saved[0] == saved[1], model


def list_part(sessions: Sessions) -> Any:
    """All of a part. Customers are numbered by the dataset's whole log: a number says who is the same, and no more."""
    known = {-1: -1}
    named = [known.setdefault(customer, len(known)) for customer in sessions.customers.tolist()]
    return sessions.items.tolist(), sessions.times.tolist(), sessions.offsets.tolist(), named


def learnt(wanted: Recommender, view: View) -> list[Model]:
    """What a search tries, and what is judged."""
    trial = fit_watched(wanted.model, view, "none", seed=1)
    whole = fit_with_settings(
        wanted.model, view.training, len(view.vocabulary), trial.report.settings, items=view.items, seed=1
    )
    return [trial.model, whole]


def artifacts(models: list[Model], folder: Path) -> dict[str, bytes]:
    found = {}
    for number, model in enumerate(models):
        place = folder / str(number)
        place.mkdir(parents=True)
        model.save(place)
        found |= {f"{number}/{file.name}": file.read_bytes() for file in place.iterdir()}
    return found


def test_an_item_of_the_future_is_not_known_before(store: Store) -> None:
    """Its row in the item table, what is counted of it and when it was first met: nothing reaches the training."""
    rows = [event("a", "old", 0), event("a", "late", 1), event("b", "old", DAY), event("b", "late", DAY + 1)]
    rows += [event("c", letter, 2 * DAY + place) for place, letter in enumerate(["late", "old", "new"])]
    test = [event("t", letter, -DAY + place, part="test") for place, letter in enumerate(["late", "older", "old"])]
    table = {"item": ["old", "late", "new", "older"], "category": ["x", "x", "y", "z"]}
    split = {"by": "time", "test": "1d", "validation": "1d"}
    view = open_view(dataset(store, rows, items=table), recommender(split=split))
    assert view.vocabulary.ids == ["late", "old"]
    assert view.items["category"].to_pylist() == ["x", "x"]
    assert view.items["events"].to_pylist() == [2, 2]
    given = recommender(split={"by": "given", "validation": "1d"})
    with_test = open_view(dataset(store, rows + test, items=table), given)
    alone = open_view(dataset(store, rows + test[:1] + test[2:], items=table), given)
    # Test sessions that lie before the training part show neither an item nor an earlier first sight of one.
    assert "older" not in with_test.vocabulary.ids
    assert with_test.items.equals(alone.items)
    firsts = dict(zip(with_test.vocabulary.ids, with_test.items["first_seen"].to_pylist(), strict=True))
    assert firsts["late"] == rows[1]["time"]
