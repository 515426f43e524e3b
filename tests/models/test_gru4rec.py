"""How GRU4Rec trains: batches, resuming, stopping, features."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from endcap.errors import DivergedError, UserError
from endcap.features.sessions import Sessions
from endcap.models import Fitting, Model, Validation
from endcap.models.gru4rec import GRU4Rec
from endcap.spec.neural import GRU4RecSpec
from tests.models.shapes import N_ITEMS, SMALL_GRU, checkerboard
from tests.refusals import refused


def same_weights(one: GRU4Rec, other: GRU4Rec) -> bool:
    mine, others = one.network.arrays(), other.network.arrays()
    return all(np.array_equal(mine[name], others[name]) for name in mine)


class Graded(Validation):
    """A validation that gives these grades, one after the other."""

    def __init__(self, grades: Iterator[float]) -> None:
        super().__init__(Sessions.of([[0]]), np.array([1], dtype=np.int32))
        object.__setattr__(self, "grades", grades)

    def measure(self, model: Model) -> float:
        return next(self.grades)  # type: ignore[attr-defined,no-any-return]


def test_epochs_given_are_trained_exactly_and_told() -> None:
    lines: list[str] = []
    model = GRU4Rec(SMALL_GRU)
    report = model.fit(checkerboard(), N_ITEMS, Fitting(settings={"epochs": 3}, progress=lines.append))
    assert report.settings == {"epochs": 3}
    assert [row["epoch"] for row in report.history] == [1, 2, 3]
    assert report.history[2]["loss"] < report.history[0]["loss"]
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]


def test_training_stops_after_patience_and_keeps_the_best_epoch() -> None:
    grades = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    spec = SMALL_GRU.model_copy(update={"patience": 2, "max_epochs": 9})
    stopped, two_epochs = GRU4Rec(spec), GRU4Rec(spec)
    report = stopped.fit(checkerboard(), N_ITEMS, Fitting(validation=Graded(grades)))
    assert report.settings == {"epochs": 2}
    assert [row["validation"] for row in report.history] == [0.1, 0.3, 0.2, 0.3]
    two_epochs.fit(checkerboard(), N_ITEMS, Fitting(settings={"epochs": 2}))
    assert same_weights(stopped, two_epochs)


def test_the_seed_decides() -> None:
    models = [GRU4Rec(SMALL_GRU) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        model.fit(checkerboard(), N_ITEMS, Fitting(seed=seed, settings={"epochs": 2}))
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


KILLED = """
import sys, time
from pathlib import Path
from endcap.models import Fitting
from endcap.models.gru4rec import GRU4Rec
from tests.models.shapes import N_ITEMS, SMALL_GRU, checkerboard

def tell(line):
    print(line, flush=True)
    time.sleep(0.1)

given = {"epochs": 60}
GRU4Rec(SMALL_GRU).fit(checkerboard(), N_ITEMS, Fitting(settings=given, workspace=Path(sys.argv[1]), progress=tell))
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("epoch 3/"))
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    lines: list[str] = []
    resumed, whole = GRU4Rec(SMALL_GRU), GRU4Rec(SMALL_GRU)
    report = resumed.fit(
        checkerboard(), N_ITEMS, Fitting(settings={"epochs": 60}, workspace=tmp_path, progress=lines.append)
    )
    assert lines[0].startswith("going on after epoch")
    assert 1 < len(lines) <= 58
    assert [row["epoch"] for row in report.history] == list(range(1, 61))
    whole.fit(checkerboard(), N_ITEMS, Fitting(settings={"epochs": 60}))
    assert same_weights(resumed, whole)


def test_a_checkpoint_of_another_fit_or_a_damaged_one_is_not_taken(tmp_path: Path) -> None:
    GRU4Rec(SMALL_GRU).fit(checkerboard(), N_ITEMS, Fitting(seed=1, settings={"epochs": 2}, workspace=tmp_path))
    fresh, other = GRU4Rec(SMALL_GRU), GRU4Rec(SMALL_GRU)
    fresh.fit(checkerboard(), N_ITEMS, Fitting(seed=2, settings={"epochs": 2}))
    other.fit(checkerboard(), N_ITEMS, Fitting(seed=2, settings={"epochs": 2}, workspace=tmp_path))
    assert same_weights(fresh, other)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\0" * 20)
    other.fit(checkerboard(), N_ITEMS, Fitting(seed=2, settings={"epochs": 2}, workspace=tmp_path))
    assert same_weights(fresh, other)


def with_feature(items: list[list[int]], values: list[list[float]]) -> Sessions:
    plain = Sessions.of(items)
    flat = np.array([value for session in values for value in session], dtype=np.float32)
    return Sessions(plain.items, plain.times, plain.offsets, plain.customers, {"hour": flat})


def test_a_feature_of_the_event_counts() -> None:
    # Item 0 is followed by 1 in the morning (bucket 0) and by 2 in the evening (bucket 1).
    train = with_feature([[0, 1], [0, 2]] * 40, [[0, 0], [1, 1]] * 40)
    model = GRU4Rec(GRU4RecSpec(width=8, batch_size=8, negatives=4, dropout_hidden=0.0, features=["hour"]))
    model.fit(train, 3, Fitting(settings={"epochs": 10}))
    asked = with_feature([[0], [0], [0]], [[0], [1], [9]])
    assert model.recommend(asked, 1).items[:, 0].tolist() == [1, 2, 2]


def test_features_must_be_there_and_in_buckets() -> None:
    spec = GRU4RecSpec(features=["hour"])
    with refused(UserError, "models.feature-unknown", setting="model.features", found="hour", allowed=[]):
        GRU4Rec(spec).fit(checkerboard(), N_ITEMS, Fitting())
    with refused(UserError, "models.too-many-buckets", found=86_401, limit=1000):
        GRU4Rec(spec).fit(with_feature([[0, 1]], [[0, 86_400]]), 2, Fitting())


def test_items_without_training_events_are_never_recommended() -> None:
    model = GRU4Rec(SMALL_GRU)
    model.fit(checkerboard(), N_ITEMS + 3, Fitting(settings={"epochs": 1}))
    assert (model.score(Sessions.of([[0]]))[0, N_ITEMS:] == -np.inf).all()
    # Such an item may still stand in a session.
    assert np.isfinite(model.score(Sessions.of([[N_ITEMS + 1]]))[0, :N_ITEMS]).all()


def test_features_of_items_count() -> None:
    # Items 0 and 1 are followed by 4, items 2 and 3 by 5; item 3 has the category of item 2 and is hardly seen.
    train = Sessions.of([[0, 4], [1, 4], [2, 5]] * 40 + [[3, 3]])
    spec = GRU4RecSpec(width=8, batch_size=8, negatives=4, dropout_hidden=0.0, item_features=["category"])
    model = GRU4Rec(spec)
    categories = np.array([0, 0, 1, 1, -1, -1])
    model.fit(train, 6, Fitting(settings={"epochs": 10}, item_features={"category": categories}))
    assert model.recommend(Sessions.of([[0], [2], [3]]), 1, exclude="last").items[:, 0].tolist() == [4, 5, 5]
    with refused(UserError, "models.feature-unknown", setting="model.item_features", found="category"):
        GRU4Rec(spec).fit(train, 6, Fitting())


@pytest.mark.parametrize("changes", [{"loss": "bpr-max"}, {"output_embedding": "separate"}, {"negatives": 1000}])
def test_other_settings_learn_too(changes: dict[str, object], tmp_path: Path) -> None:
    model = GRU4Rec(SMALL_GRU.model_copy(update={**changes, "learning_rate": 0.1}))
    model.fit(checkerboard(), N_ITEMS, Fitting(settings={"epochs": 6}))
    asked = Sessions.of([[0, 2], [1, 5, 3], [10], [7]])
    assert (model.recommend(asked, 5).items % 2 == [[0], [1], [0], [1]]).all()
    model.save(tmp_path)
    np.testing.assert_array_equal(GRU4Rec.load(tmp_path).score(asked), model.score(asked))


def test_all_prefixes_in_one_pass_score_as_each_for_itself() -> None:
    model = GRU4Rec(SMALL_GRU.model_copy(update={"max_events": 4}))
    model.fit(checkerboard(60), N_ITEMS, Fitting(settings={"epochs": 1}))
    sessions = Sessions.of([[3], [0, 2, 4, 6, 8, 10, 0], [], [1, 3], [5, 5, 5, 5, 5]])
    prefixes, _, _ = sessions.prefixes()
    np.testing.assert_allclose(model.score_prefixes(sessions), model.score(prefixes), rtol=1e-5, atol=1e-5)


def test_sessions_of_a_thousand_events_and_of_one() -> None:
    train = Sessions.of([[number % 2 for number in range(1000)], [3], [4], [0, 1]])
    model = GRU4Rec(SMALL_GRU)
    model.fit(train, 5, Fitting(settings={"epochs": 2}))
    assert model.recommend(Sessions.of([[0, 1] * 500, [0]]), 1, exclude="last").items.tolist() == [[0], [1]]


def test_a_loss_that_is_no_number_is_told() -> None:
    with refused(DivergedError, "models.diverged"):
        GRU4Rec(SMALL_GRU.model_copy(update={"learning_rate": 1e38})).fit(checkerboard(), N_ITEMS, Fitting())
