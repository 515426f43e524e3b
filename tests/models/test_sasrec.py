"""How SASRec trains: stopping, resuming, side information, prefixes in one pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from endcap.errors import DivergedError, UserError
from endcap.features.sessions import Sessions
from endcap.models import Fitting, Validation
from endcap.models.sasrec import SASRec
from endcap.spec.neural import SASRecSpec
from tests.models.shapes import N_ITEMS, SMALL_SASREC, checkerboard
from tests.refusals import refused


def same_weights(one: SASRec, other: SASRec) -> bool:
    mine, others = one.network.arrays(), other.network.arrays()
    return all(np.array_equal(mine[name], others[name]) for name in mine)


def fit_sasrec(train: Sessions, n_items: int, fitting: Fitting | None = None, **changes: object) -> SASRec:
    model = SASRec(SMALL_SASREC.model_copy(update=changes))
    model.fit(train, n_items, fitting or Fitting(settings={"epochs": 2}))
    return model


class Graded(Validation):
    """Says what it is told to, whatever the model."""

    def measure(self, model: object) -> float:
        return GRADES.pop(0)


GRADES: list[float] = []


def test_training_stops_after_patience_and_keeps_the_best_epoch() -> None:
    GRADES[:] = [0.1, 0.3, 0.2, 0.3, 0.9]
    validation = Graded(*checkerboard(4).prefixes()[:2])
    stopped = SASRec(SMALL_SASREC.model_copy(update={"patience": 2, "max_epochs": 9}))
    report = stopped.fit(checkerboard(), N_ITEMS, Fitting(validation=validation))
    assert report.settings == {"epochs": 2}
    assert [row["validation"] for row in report.history] == [0.1, 0.3, 0.2, 0.3]
    assert report.history[3]["loss"] < report.history[0]["loss"]
    assert same_weights(stopped, fit_sasrec(checkerboard(), N_ITEMS, patience=2, max_epochs=9))


def test_an_observer_may_end_the_fit() -> None:
    model = SASRec(SMALL_SASREC)
    report = model.fit(checkerboard(), N_ITEMS, Fitting(observe=lambda row: row["epoch"] < 3))
    assert [row["epoch"] for row in report.history] == [1, 2, 3]


@pytest.mark.parametrize("loss", ["cross-entropy", "gbce"])
def test_the_seed_decides(loss: str) -> None:
    one, again, other = (
        fit_sasrec(checkerboard(), N_ITEMS, Fitting(seed=seed, settings={"epochs": 2}), loss=loss) for seed in (1, 1, 2)
    )
    assert same_weights(one, again)
    assert not same_weights(one, other)


KILLED = """
import sys, time
from pathlib import Path
from endcap.models import Fitting
from endcap.models.sasrec import SASRec
from tests.models.shapes import SMALL_SASREC, checkerboard

def tell(line):
    print(line, flush=True)
    time.sleep(0.1)

fitting = Fitting(settings={"epochs": 15}, workspace=Path(sys.argv[1]), progress=tell)
SASRec(SMALL_SASREC).fit(checkerboard(60), int(sys.argv[2]), fitting)
"""


@pytest.mark.parametrize("n_items", [pytest.param(N_ITEMS, id="all weights"), pytest.param(20_000, id="rows alone")])
@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(n_items: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(n_items)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("epoch 3/"))
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    lines: list[str] = []
    fitting = Fitting(settings={"epochs": 15}, workspace=tmp_path, progress=lines.append)
    resumed = fit_sasrec(checkerboard(60), n_items, fitting)
    assert lines[0].startswith("going on after epoch")
    assert 1 < len(lines) <= 13
    assert same_weights(resumed, fit_sasrec(checkerboard(60), n_items, Fitting(settings={"epochs": 15})))


def test_a_loss_that_is_no_number_is_said() -> None:
    with refused(DivergedError, "models.diverged"):
        fit_sasrec(checkerboard(), N_ITEMS, Fitting(settings={"epochs": 9}), learning_rate=1e30)


def test_prefixes_in_one_pass_score_as_they_do_alone() -> None:
    model = fit_sasrec(checkerboard(), N_ITEMS, last_events=4)
    asked = Sessions.of([[0, 2, 4, 6, 8, 10, 0], [1], [], [3, 5, 7], [1, 3, 5, 7, 9], [2, 4, 6, 8, 0, 2]])
    together = model.score_prefixes(asked)
    np.testing.assert_allclose(together, model.score(asked.prefixes()[0]), rtol=1e-5, atol=1e-5)
    assert model.score_prefixes(Sessions.of([[1]])).shape == (0, N_ITEMS)


def test_of_a_long_session_the_last_events_count() -> None:
    rng = np.random.default_rng(5)
    train = Sessions.of([rng.integers(0, N_ITEMS, 1000).tolist() for _ in range(3)])
    model = fit_sasrec(train, N_ITEMS, last_events=10)
    long, short = train.take(np.array([0])), train.take(np.array([0])).last(10)
    np.testing.assert_array_equal(model.score(long), model.score(short))


def with_feature(items: list[list[int]], values: list[list[float]]) -> Sessions:
    plain = Sessions.of(items)
    flat = np.array([value for session in values for value in session], dtype=np.float32)
    return Sessions(plain.items, plain.times, plain.offsets, plain.customers, {"hour": flat})


def test_a_feature_of_the_event_counts() -> None:
    # Item 0 is followed by 1 in the morning (bucket 0) and by 2 in the evening (bucket 1).
    train = with_feature([[0, 1], [0, 2]] * 40, [[0, 0], [1, 1]] * 40)
    model = fit_sasrec(train, 3, Fitting(settings={"epochs": 10}), features=["hour"])
    asked = with_feature([[0], [0], [0]], [[0], [1], [9]])
    assert model.recommend(asked, 1).items[:, 0].tolist() == [1, 2, 2]


def test_an_attribute_of_the_item_counts_and_is_saved(tmp_path: Path) -> None:
    # Items 0 … 5 lead to 6, and 8 … 13 to 7; 14 and 15 were not seen in training, but they are of the second kind.
    train = Sessions.of([[first, 6 if first < 6 else 7] for first in [*range(6), *range(8, 14)]] * 10)
    kinds = np.array([0] * 6 + [-1, -1] + [1] * 8)
    fitting = Fitting(settings={"epochs": 20}, item_features={"kind": kinds})
    model = fit_sasrec(train, 16, fitting, item_features=["kind"], negatives=4)
    asked = Sessions.of([[0], [9], [14], [15]])
    assert model.recommend(asked, 1).items[:, 0].tolist() == [6, 7, 7, 7]
    model.save(tmp_path)
    np.testing.assert_array_equal(SASRec.load(tmp_path).score(asked), model.score(asked))


def test_what_the_spec_names_must_be_there() -> None:
    with refused(UserError, "models.feature-unknown", setting="model.features", found="hour", allowed=[]):
        fit_sasrec(checkerboard(), N_ITEMS, features=["hour"])
    with refused(UserError, "models.feature-unknown", setting="model.item_features", found="brand"):
        fit_sasrec(checkerboard(), N_ITEMS, item_features=["brand"])
    with refused(UserError, "models.too-many-buckets", found=86_401, limit=1000):
        fit_sasrec(with_feature([[0, 1]], [[0, 86_400]]), 2, features=["hour"])
    with refused(UserError, "models.heads-unfit", found=3, width=64):
        SASRec(SASRecSpec(width=64, heads=3))


def test_items_without_training_events_are_never_recommended() -> None:
    model = fit_sasrec(checkerboard(), N_ITEMS + 3)
    assert (model.score(Sessions.of([[0]]))[0, N_ITEMS:] == -np.inf).all()
    # Such an item may still stand in a session.
    assert np.isfinite(model.score(Sessions.of([[N_ITEMS + 1]]))[0, :N_ITEMS]).all()
