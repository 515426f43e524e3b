"""What the training core is put together from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from endcap.neural.negatives import NegativeSampler
from endcap.neural.optimisers import Adagrad, Adam, DenseOptimiser, TableOptimiser, UpdateRule, combine
from endcap.neural.scratch import Scratch
from endcap.neural.sequences import Lanes, SequencePieces

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

BARE = """
import sys

class Bare:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if name == "endcap" or name == "endcap.neural" or name.startswith("endcap.neural."):
            return None
        allowed = top in sys.stdlib_module_names or top in ("torch", "numpy", "torchgen", "typing_extensions")
        if not allowed and not inside_of_torch():
            raise ModuleNotFoundError(f"not on a bare machine: {name}")

def inside_of_torch():
    frame = sys._getframe()
    while frame := frame.f_back:
        if frame.f_globals.get("__name__", "").split(".")[0] in ("torch", "numpy"):
            return True
    return False

sys.meta_path.insert(0, Bare())
import pkgutil, importlib, endcap.neural
for module in pkgutil.iter_modules(endcap.neural.__path__):
    importlib.import_module(f"endcap.neural.{module.name}")
"""


def test_the_core_imports_torch_numpy_and_the_standard_library_only() -> None:
    done = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_epoch_has_every_transition_once_and_in_order() -> None:
    lengths = np.random.default_rng(1).integers(0, 9, 50)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    pieces = SequencePieces.of(offsets, longest=3)
    order = np.random.default_rng(2).permutation(len(pieces.lengths))
    laid_out = Lanes.of(torch.from_numpy(pieces.first[order]), torch.from_numpy(pieces.lengths[order]), 8)
    events, fresh, active = laid_out.events.numpy(), laid_out.fresh.numpy(), laid_out.active.numpy()
    followed = np.setdiff1d(np.arange(offsets[-1]), offsets[1:][lengths > 0] - 1)
    assert sorted(events[active].tolist()) == followed.tolist()
    assert active[:-1, :-1].all()
    assert fresh[0].all()
    # On each lane an event follows the one above it, or a piece begins.
    goes_on = events[1:] == events[:-1] + 1
    assert (goes_on | fresh[1:] | ~active[1:]).all()
    begins = np.isin(events, pieces.first) & active
    assert fresh[begins].all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_negatives_come_as_often_as_expected_however_they_are_drawn(alpha: float) -> None:
    events = np.random.default_rng(0).zipf(1.5, 200).clip(0, 500)
    events[7] = 0
    negatives = NegativeSampler(events, alpha, 32)
    share = np.where(events > 0, events.astype(float) ** alpha, 0)
    np.testing.assert_allclose(negatives.expected, 32 * share / share.sum())
    drawn = negatives.block(6000, np.random.default_rng(1))
    counts = negatives.counts(6000, np.random.default_rng(2))
    assert (counts.sum(axis=1) == 32).all()
    for mean in (np.bincount(drawn.ravel(), minlength=200) / 6000, counts.mean(axis=0)):
        np.testing.assert_allclose(mean, negatives.expected, atol=0.03)


def test_with_fewer_items_than_negatives_each_comes_once() -> None:
    negatives = NegativeSampler(np.array([3, 0, 1, 9]), 0.5, 50)
    rng = np.random.default_rng(0)
    assert negatives.block(2, rng).tolist() == [[0, 2, 3]] * 2
    assert negatives.counts(2, rng).tolist() == [[1, 0, 1, 1]] * 2


@pytest.mark.parametrize("rule", [Adagrad(0.1), Adagrad(0.1, momentum=0.5), Adam(0.01), Adam(0.01, weight_decay=0.1)])
def test_rows_of_a_table_move_as_dense_weights_do(rule: UpdateRule) -> None:
    start = torch.randn(5, 3)
    table, dense, scratch = TableOptimiser(start, rule), DenseOptimiser(start.flatten().clone(), rule), Scratch(CPU)
    for _ in range(4):
        ids, gradient = torch.tensor([0, 1, 2, 3, 4, 5]), torch.randn(6, 3)
        gradient[5] = 0
        rows = torch.empty(6, 1 + rule.parts, 3)
        table.fetch(ids, rows)
        dense.update(gradient[:5].flatten().clone())
        table.update(ids, gradient, rows, scratch)
    torch.testing.assert_close(table.values, dense.values.view(5, 3))
    assert not table.memory[5].any()


@pytest.mark.parametrize(
    ("rule", "known"),
    [
        pytest.param(Adam(0.01), lambda p: torch.optim.Adam(p, 0.01), id="adam"),
        pytest.param(Adagrad(0.1, epsilon=1e-20), lambda p: torch.optim.Adagrad(p, 0.1), id="adagrad"),
    ],
)
def test_the_rules_are_those_of_torch(rule: UpdateRule, known: type) -> None:
    mine = DenseOptimiser(torch.linspace(-1, 1, 7), rule)
    weights = torch.linspace(-1, 1, 7).requires_grad_()
    optimiser = known([weights])
    for step in range(5):
        weights.grad = torch.sin(torch.arange(7.0) + step)
        mine.update(weights.grad.clone())
        optimiser.step()
    torch.testing.assert_close(mine.values, weights.detach())


def test_equal_rows_are_combined() -> None:
    gradient = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    ids, total = combine(torch.tensor([3, 1, 3, 2]), gradient, torch.zeros(6, dtype=torch.int64), padding=5)
    kept = dict(zip(ids.tolist(), total[:, 0].tolist(), strict=True))
    assert kept == {3: 5.0, 1: 2.0, 2: 8.0, 5: 0.0}
