"""Views: where the cuts are, what is dropped, and that nothing of the test reaches the training part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endcap.errors import DataError
from endcap.features import build
from endcap.features.dataset_files import build_item_table, read_refit_sessions
from endcap.features.event_features import compute_features
from endcap.features.sessions import Sessions
from endcap.features.split import where
from endcap.features.view import View, open_view
from endcap.features.vocabulary import Vocabulary
from endcap.store import Store
from tests.features.logs import DAY, MONDAY, dataset, event, recommender, rsc15, sessions, shop, snapshot
from tests.refusals import misspelt, refused

HOUR = 3_600_000


def letters(part: Sessions, vocabulary: Vocabulary) -> list[str]:
    """Sessions of one-letter items as words."""
    return [
        "".join(vocabulary.ids[item] for item in part.items[begin:end])
        for begin, end in zip(part.offsets[:-1], part.offsets[1:], strict=True)
    ]


def parts(view: View) -> dict[str, list[str]]:
    return {name: letters(getattr(view, name), view.vocabulary) for name in ("train", "validation", "training", "test")}


def day_by_day(text: str, part: str = "train") -> list[dict[str, Any]]:
    """Session number n begins at 09:00 on day n, with an event a second."""
    return [
        event(f"{part}{day}", letter, day * DAY + 9 * HOUR + 1000 * place, part=part)
        for day, word in enumerate(text.split())
        for place, letter in enumerate(word)
    ]


def by_time(test: Any, validation: Any) -> Any:
    return recommender(split={"by": "time", "test": test, "validation": validation})


def test_days_count_back_from_the_last_event(store: Store) -> None:
    folder = dataset(store, day_by_day("abc abc abd cab bac"))
    view = open_view(folder, by_time("1d", "1d"))
    # The last event is at 09:00:02 on day 4: a day back is 09:00:02.001 on day 3, after the start of day 3's session.
    assert parts(view) == {
        "train": ["abc", "abc", "abd"],
        "validation": ["cab"],
        "training": ["abc", "abc", "abd", "cab"],
        "test": ["bac"],
    }
    assert view.counts["from"]["test"] == MONDAY + 3 * DAY + 9 * HOUR + 2001
    assert len(open_view(folder, by_time("2d", "1d")).test) == 2
    # A part holds a moment that is just less than its length before the last event, and none as long before it.
    assert len(open_view(folder, by_time(f"{DAY // 1000 + 2}s", "1d")).test) == 1
    assert len(open_view(folder, by_time(f"{DAY // 1000 + 3}s", "1d")).test) == 2


def test_a_share_is_of_all_sessions_and_keeps_equal_starts_together(store: Store) -> None:
    folder = dataset(store, day_by_day("ab ab ab ab ab ab ab ab ab ab"))
    view = open_view(folder, by_time(0.2, 0.3))
    assert {name: len(words) for name, words in parts(view).items()} == {
        "train": 5,
        "validation": 3,
        "training": 8,
        "test": 2,
    }
    rows = day_by_day("ab ab ab ab")
    rows += [event(name, letter, 9 * DAY + place) for name in "xyz" for place, letter in enumerate("ab")]
    view = open_view(dataset(store, rows), by_time(0.2, 0.0))
    assert (len(view.training), len(view.validation), len(view.test)) == (4, 0, 3)


def test_nothing_at_or_after_a_cut_is_learnt_from(store: Store) -> None:
    rows = [event("long", letter, place * DAY) for place, letter in enumerate("abcdx")]
    rows += [event("t", letter, 3 * DAY + 5 + place) for place, letter in enumerate("ab")]
    rows += [event("v", letter, 2 * DAY + 5 + place) for place, letter in enumerate("bac")]
    view = open_view(dataset(store, rows), by_time("1d", "1d"))
    assert parts(view) == {"train": ["abc"], "validation": ["bac"], "training": ["abcd", "bac"], "test": ["ab"]}
    assert view.counts["cut"] == {"events_from_test_on": 1}
    assert "x" not in view.vocabulary.ids
    assert view.training.times.max() < view.counts["from"]["test"] <= view.test.times.min()
    assert view.train.times.max() < view.counts["from"]["validation"] <= view.validation.times.min()


def test_what_training_lacks_is_dropped_from_the_test_with_counts(store: Store) -> None:
    folder = dataset(store, day_by_day("abc cba") + day_by_day("- - axb xyz ax c ba")[2:], filters_of_one())
    view = open_view(folder, by_time("5d", "1d"))
    assert parts(view)["test"] == ["ab", "ba"]
    assert view.counts["test"] == {
        "sessions": 2,
        "events": 4,
        "unseen_events": 5,
        "short_sessions": 3,
        "short_events": 2,
        "one_moment_sessions": 0,
        "one_moment_events": 0,
        "transitions": 2,
        "equal_times": 0,
    }


def filters_of_one() -> Any:
    declared = [{"name": kind, "kind": kind} for kind in ("position", "gap", "repeat")]
    return shop(filters={"min_session_events": 1}, features={"events": declared})


def test_features_are_those_of_a_request_without_the_dropped_events(store: Store) -> None:
    folder = dataset(store, day_by_day("abc cba axbxa"), filters_of_one())
    view = open_view(folder, by_time("1d", "0d"))
    assert parts(view)["test"] == ["aba"]
    assert {name: values.tolist() for name, values in view.test.features.items()} == {
        "position": [0, 1, 2],
        "gap": [0, 2, 2],
        "repeat": [0, 0, 1],
    }
    asked = compute_features(view.features, view.training)
    assert {name: values.tolist() for name, values in view.training.features.items()} == {
        name: values.tolist() for name, values in asked.items()
    }


def test_the_vocabulary_is_by_popularity_in_the_training_part_then_by_id(store: Store) -> None:
    items = {"item": list("abcz"), "title": ["A", "B", "C", "Z"]}
    rows = day_by_day("ccb bac aaaaaa")
    folder = store.fetch(build(shop(), snapshot(store, rows, items=items), store))
    view = open_view(folder, by_time("1d", "1d"))
    assert view.vocabulary.ids == ["c", "b", "a"]
    assert view.items.select(["item", "events", "title"]).to_pylist() == [
        {"item": "c", "events": 3, "title": "C"},
        {"item": "b", "events": 2, "title": "B"},
        {"item": "a", "events": 1, "title": "A"},
    ]


def test_given_test_sessions_stay_whole_and_validation_is_the_end_of_training(store: Store) -> None:
    rows = day_by_day("abc bca cab") + day_by_day("ab xb cxa a", part="test")
    folder = dataset(store, rows)
    chosen = recommender(split={"by": "given", "validation": "1d"})
    view = open_view(folder, chosen)
    assert parts(view) == {
        "train": ["abc", "bca"],
        "validation": ["cab"],
        "training": ["abc", "bca", "cab"],
        "test": ["ab", "ca"],
    }
    assert view.counts["test"]["unseen_events"] == 2
    vocabulary, sessions_ = read_refit_sessions(folder, chosen)
    assert letters(sessions_, vocabulary) == ["abc", "bca", "cab"]


def test_everything_is_training_and_test_where_the_split_is_by_time(store: Store) -> None:
    folder = dataset(store, day_by_day("abc abc xxa"))
    vocabulary, sessions_ = read_refit_sessions(folder, by_time("1d", "1d"))
    assert vocabulary.ids == ["a", "b", "c", "x"]
    assert letters(sessions_, vocabulary) == ["abc", "abc", "xxa"]
    assert build_item_table(folder, vocabulary, sessions_)["events"].to_pylist() == [3, 2, 2, 2]


@pytest.mark.parametrize(
    ("split", "code", "fields"),
    [
        ({"by": "time", "test": "9d"}, "features.no-training-sessions", {"of_sessions": 3, "of_events": 9}),
        ({"by": "time", "test": "1d", "validation": "2w"}, "features.no-training-sessions", {"of_sessions": 3}),
        ({"by": "time", "test": 0.0}, "features.no-test-sessions", {"sessions": 0, "unseen_events": 0}),
        ({"by": "given"}, "features.no-test-source", {"shop": "shop"}),
    ],
)
def test_a_split_that_leaves_nothing_says_what_there_was(
    store: Store, split: Any, code: str, fields: dict[str, Any]
) -> None:
    folder = dataset(store, day_by_day("abc bca cab"))
    with refused(DataError, code, **fields) as caught:
        open_view(folder, recommender(split=split))
    assert split.items() <= caught.value.fields.get("split", split).items()


def test_a_test_of_unseen_items_only_says_so(store: Store) -> None:
    folder = dataset(store, day_by_day("abc bca xyz"))
    with refused(DataError, "features.no-test-sessions", unseen_events=3):
        open_view(folder, by_time("1d", "1d"))


def test_a_single_session_cannot_be_split(store: Store) -> None:
    with refused(DataError, "features.no-training-sessions", of_sessions=1, of_events=3):
        open_view(dataset(store, sessions("abc")), recommender())


def test_a_model_feature_that_the_shop_lacks_is_an_error(store: Store) -> None:
    folder = dataset(store, day_by_day("abc bca cab"))
    with misspelt(("model.features[0]", "unknown-name")):
        open_view(folder, recommender(model={"name": "gru4rec", "features": ["hour"]}))


def test_a_vocabulary_finds_its_items_and_survives_saving(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["größe 🛒", "b\n", '"c"'])
    vocabulary.save(tmp_path / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "vocabulary.json")
    assert (loaded.ids, len(loaded)) == (vocabulary.ids, 3)
    assert (loaded.index("b\n"), loaded.index("unknown")) == (1, -1)
    assert loaded.indices(['"c"', "no", "größe 🛒"]).tolist() == [2, -1, 0]
    assert loaded.indices([]).dtype == np.int32


def test_rsc15_has_the_counts_that_are_published(store: Store, shared_data: Path) -> None:
    folder = shared_data / "rsc15_100k"
    rows = rsc15(folder / "yoochoose-clicks-100k_train_full.txt.xz", "train")
    rows += rsc15(folder / "yoochoose-clicks-100k_test.txt.xz", "test")
    made = dataset(store, rows, shop(filters={"min_session_events": 1}))
    # The times of these rows are cut to the second.
    view = open_view(made, recommender(split={"by": "given", "validation": "1d"}, evaluation={"order": "file"}))
    assert (len(view.training), len(view.training.items), len(view.vocabulary)) == (17_794, 70_278, 2_933)
    assert (len(view.test), len(view.test.prefixes()[1])) == (3_416, 10_152)
    assert np.all(np.diff(view.training.times)[np.diff(view.training.session_of_event) == 0] >= 0)


def test_some_events_of_sessions_are_kept() -> None:
    random = np.random.default_rng(1)
    for events in (0, 1, 2, 40):
        lists = [random.integers(0, 9, random.integers(0, 4)).tolist() for _ in range(events)]
        log = Sessions.of(lists)
        for kept in (random.random(len(log.items)) < share for share in (0, 0.5, 0.95, 1)):
            left = where(log, kept)
            counts = np.add.reduceat(np.append(kept, False), log.offsets[:-1]) if events else np.zeros(0, int)
            assert left.items.tolist() == log.items[kept].tolist()
            assert left.times.tolist() == log.times[kept].tolist()
            assert left.lengths.tolist() == np.where(log.lengths > 0, counts, 0).tolist()
