"""The step of GRU4Rec: its gradients, its two layouts, its workers."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, gru_cell
from torch.nn.functional import cross_entropy, elu

from endcap.neural.cuda_graphs import EagerSteps, ReplayedSteps
from endcap.neural.gru import GRUNetwork, GRUShape
from endcap.neural.gru_blocks import GRUBatch
from endcap.neural.gru_training import GRUSettings, GRUTrainer
from endcap.neural.losses import NEVER
from endcap.neural.parallel import Exchange, SingleWorker
from endcap.neural.sequences import Sequences

N_ITEMS, WIDTH = 40, 12
ROOT = Path(__file__).parents[2]
SETTINGS = GRUSettings(
    batch=6, negatives=10, learning_rate=0.1, momentum=0.2, dropout_embedding=0.2, dropout_hidden=0.3
)
ITEM_CODES = {"category": np.arange(N_ITEMS) % 3}


def sequences(sessions: int = 60) -> Sequences:
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 8, sessions)
    items = (rng.zipf(1.3, lengths.sum()) - 1).clip(0, N_ITEMS - 2).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(items, offsets, {"hour": rng.integers(0, 4, len(items))})


def trainer(settings: GRUSettings = SETTINGS, *, separate: bool = False, counted: bool = True) -> GRUTrainer:
    shape = GRUShape(N_ITEMS, WIDTH, separate, {"hour": 4}, {"category": 3})
    train = sequences()
    known = np.bincount(train.items, minlength=N_ITEMS) > 0
    made = GRUTrainer(GRUNetwork.draw(shape, known, ITEM_CODES, seed=1), train, settings, seed=2)
    assert made.blocks.counted
    if not counted:
        made.blocks.counted = False
        made.step = type(made.step)(
            made.weights,
            settings.loss_function(),
            made.blocks.lanes,
            made.blocks.own_lanes,
            made.exchange,
            repeated=True,
        )
        made.run = EagerSteps(made.step)
    return made


def compute_by_autograd(made: GRUTrainer, batch: GRUBatch, hidden: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Loss and gradients of a batch, from the formulas of the papers, on whole tables, and the next hidden state."""
    settings, network = made.settings, made.network()
    leaves = {name: values.clone().requires_grad_() for name, values in network.weights.items() if name != "bias"}
    bias = torch.zeros(N_ITEMS, requires_grad=True)
    inputs = leaves["items"][batch.inputs]
    inputs = inputs + leaves["item-feature.category"][batch.codes["item-feature.category"]]
    inputs = inputs + leaves["feature.hour"][batch.codes["feature.hour"]]
    gru = [leaves[f"gru.{name}"] for name in ("input", "hidden", "input_bias", "hidden_bias")]
    after = gru_cell(inputs * batch.coming, hidden * batch.kept, *gru) * batch.going
    columns = batch.rows[: batch.offset.shape[1]].clamp(max=N_ITEMS - 1)
    scores = after @ leaves.get("output", leaves["items"])[columns].T + bias[columns]
    target = batch.aims % len(columns)
    aim = torch.nn.functional.one_hot(target, len(columns)).bool()
    other = batch.offset.masked_fill((batch.rows[: len(columns)] == batch.targets) & ~aim, NEVER)
    if settings.loss == "cross-entropy":
        logits = scores + other + torch.zeros_like(scores).masked_scatter(aim, batch.own)
        losses = cross_entropy(logits, target, reduction="none")
    else:
        out = elu(scores, settings.bpr_elu)
        weights = (out + other).masked_fill(aim, NEVER).softmax(1)
        own = out[aim][:, None]
        losses = -(weights * torch.sigmoid(own - out)).sum(1).log() + settings.bpr_penalty * (weights * out**2).sum(1)
    loss = (losses * batch.scale[:, 0]).sum()
    loss.backward()
    leaves["bias"] = bias
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    return loss.detach(), gradients, after.detach()


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "drawn"])
@pytest.mark.parametrize("separate", [False, True], ids=["shared", "separate"])
@pytest.mark.parametrize("loss", ["cross-entropy", "bpr-max"])
def test_gradients_are_those_of_autograd(loss: str, separate: bool, counted: bool) -> None:
    made = trainer(dataclasses.replace(SETTINGS, loss=loss), separate=separate, counted=counted)
    step, table = made.step, made.weights.scored
    with torch.no_grad():
        table.values[:, WIDTH] = 0.0
    for batch in list(next(made.blocks.epoch(3, 0)).steps())[:5]:
        expected_loss, expected, after = compute_by_autograd(made, batch, step.hidden.clone())
        step.total.zero_()
        found = step.gradients(batch)
        assert step.total.item() == pytest.approx(expected_loss.item(), rel=1e-5)
        # Dropout and all: so much of the state goes on.
        torch.testing.assert_close(step.hidden, after)
        whole = torch.zeros(N_ITEMS + 1, table.memory.shape[2]).index_add_(0, batch.rows, found.scored)[:N_ITEMS]
        scored = "output" if separate else "items"
        torch.testing.assert_close(whole[:, :WIDTH], expected[scored], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(whole[:, WIDTH], expected["bias"], rtol=1e-4, atol=1e-6)
        assert not whole[:, WIDTH + 1 :].any()
        if separate:
            assert found.entering is not None
            coming = torch.zeros(N_ITEMS, WIDTH).index_add_(0, batch.inputs, found.entering)
            torch.testing.assert_close(coming, expected["items"], rtol=1e-4, atol=1e-6)
        for name, values in made.weights.split(found.dense).items():
            torch.testing.assert_close(values, expected[name], rtol=1e-4, atol=1e-6)


def test_both_layouts_and_a_replayed_block_train_alike() -> None:
    # As many negatives as items: nothing is left to chance but the order, which the seed gives.
    settings = dataclasses.replace(SETTINGS, negatives=N_ITEMS, dropout_embedding=0.0, dropout_hidden=0.0)
    counted, drawn, replayed = trainer(settings), trainer(settings, counted=False), trainer(settings, counted=False)
    replayed.run = ReplayedSteps(replayed.step, graph=False)
    losses = [[made.epoch(number) for number in range(3)] for made in (counted, drawn, replayed)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-6)
    assert losses[0][2] < losses[0][0]
    for name, values in drawn.weights.state().items():
        torch.testing.assert_close(values, replayed.weights.state()[name], rtol=1e-3, atol=1e-5)


def test_bfloat16_products_lead_to_about_the_same_place() -> None:
    settings = dataclasses.replace(SETTINGS, dropout_embedding=0.0, dropout_hidden=0.0)
    exact, rough = (trainer(dataclasses.replace(settings, precision=p)) for p in ("float32", "bfloat16"))
    for number in range(3):
        assert rough.epoch(number) == pytest.approx(exact.epoch(number), rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_as_a_cpu_does() -> None:
    settings = dataclasses.replace(SETTINGS, negatives=N_ITEMS, dropout_embedding=0.0, dropout_hidden=0.0)
    settings = dataclasses.replace(settings, precision="float32")
    here, train = trainer(settings), sequences()
    there = GRUTrainer(here.network().to(torch.device("cuda")), train, settings, seed=2)
    for number in range(3):
        assert there.epoch(number) == pytest.approx(here.epoch(number), rel=1e-3)


WORKER = """
import sys
import torch.distributed as group
from endcap.neural.parallel import AllReduce
from tests.neural.test_gru import train_and_save

group.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]), world_size=2)
train_and_save(sys.argv[3], AllReduce())
# Otherwise gloo's threads may still run as the process ends, which aborts it.
group.destroy_process_group()
"""


def train_and_save(file: str | Path, exchange: Exchange) -> None:
    """Write the weights of a network with one table of items, and of one with two, after two epochs."""
    arrays = {}
    for separate in (False, True):
        shape = GRUShape(N_ITEMS, WIDTH, separate, {"hour": 4}, {"category": 3})
        network = GRUNetwork.draw(shape, np.ones(N_ITEMS, dtype=np.bool_), ITEM_CODES, seed=1)
        made = GRUTrainer(network, sequences(), SETTINGS, 2, exchange)
        arrays[f"{separate}.loss"] = np.array([made.epoch(number) for number in range(2)])
        arrays |= {f"{separate}.{name}": values for name, values in made.network().arrays().items()}
    np.savez(file, **arrays)


@pytest.mark.slow
def test_two_workers_with_half_the_lanes_train_what_one_does(tmp_path: Path) -> None:
    def start(rank: int) -> subprocess.Popen[bytes]:
        arguments = [str(tmp_path / "store"), str(rank), str(tmp_path / f"{rank}.npz")]
        return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], cwd=ROOT)

    running = [start(rank) for rank in range(2)]
    train_and_save(tmp_path / "alone.npz", SingleWorker())
    assert [process.wait(120) for process in running] == [0, 0]
    alone, first, second = (np.load(tmp_path / f"{name}.npz") for name in ("alone", "0", "1"))
    for name in alone.files:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], alone[name], rtol=1e-3, atol=1e-4)


def test_lanes_must_be_shared_out_evenly() -> None:
    class Three:
        rank, world = 0, 3

        def sum(self, *tensors: Tensor) -> None: ...

    network = GRUNetwork.draw(GRUShape(N_ITEMS, WIDTH), np.ones(N_ITEMS, dtype=np.bool_), {}, 1)
    plain = Sequences(sequences().items, sequences().offsets)
    with pytest.raises(ValueError, match="8 sessions side by side cannot be shared out among 3 workers"):
        GRUTrainer(network, plain, dataclasses.replace(SETTINGS, batch=8), 1, Three())
