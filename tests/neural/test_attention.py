"""Self-attention: packed rows, what an event sees, losses, and steps of fixed shapes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid, softplus

from endcap.neural import attention_training
from endcap.neural.attention import AttentionNetwork, AttentionShape, lay_out_distances
from endcap.neural.attention_training import (
    AttentionTrainer,
    AttentionTraining,
    calibrated_bce,
    compute_calibration_power,
    sampled_softmax,
)
from endcap.neural.cuda_graphs import ReplayedSteps
from endcap.neural.packing import PADDING, pack_rows
from endcap.neural.sequences import SequencePieces, Sequences

CPU = torch.device("cpu")
SHAPE = AttentionShape(12, width=8, blocks=2, heads=2, max_events=6)
SETTINGS = AttentionTraining(batch=8, negatives=5, learning_rate=0.01, dropout=0.1)


def sequences(count: int, longest: int, seed: int = 1, n_items: int = 12) -> Sequences:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(rng.integers(0, n_items, offsets[-1], dtype=np.int32), offsets)


def network(shape: AttentionShape = SHAPE, seed: int = 3) -> AttentionNetwork:
    drawn = AttentionNetwork.draw(shape, np.ones(shape.n_items, dtype=np.int64), {}, seed, CPU)
    for name, values in drawn.weights.items():
        if name.endswith("distance"):
            values.normal_(generator=torch.Generator().manual_seed(seed))
    return drawn


@pytest.mark.parametrize(("longest", "width"), [(1, 1), (5, 8), (40, 8)])
def test_rows_hold_every_followed_event_once_and_pieces_whole(longest: int, width: int) -> None:
    sessions = sequences(60, longest)
    pieces = SequencePieces.of(sessions.offsets, width)
    rows = pack_rows(pieces, width, 4, np.random.default_rng(1))
    there = rows.segments != PADDING
    followed = np.setdiff1d(np.arange(len(sessions.items)), sessions.offsets[1:] - 1)
    assert len(rows) % 4 == 0
    assert sorted(rows.events[there].tolist()) == followed.tolist()
    runs = [
        tuple(events[segments == segment].tolist())
        for events, segments in zip(rows.events, rows.segments, strict=True)
        for segment in np.unique(segments[segments != PADDING])
    ]
    assert sorted(runs) == sorted(
        tuple(range(first, first + length)) for first, length in zip(pieces.first, pieces.lengths, strict=True)
    )


def test_short_sessions_share_rows_nearly_without_padding() -> None:
    pieces = SequencePieces.of(sequences(3000, 9).offsets, 50)
    rows = pack_rows(pieces, 50, 1, np.random.default_rng(1))
    assert (rows.segments != PADDING).mean() > 0.9


def test_a_value_by_distance_stands_along_each_diagonal() -> None:
    values = torch.randn(2, 9)
    for length in (1, 4, 9):
        square = lay_out_distances(values, length)
        for row in range(length):
            assert torch.equal(square[:, row, : row + 1], values[:, : row + 1].flip(1))


def test_an_event_sees_its_own_session_up_to_itself() -> None:
    model, items = network(), torch.tensor([[1, 2, 3, 4, 5, 6]])
    segments = torch.tensor([[0, 0, 0, 1, 1, PADDING]])
    together = model.encode(model.items[items], segments)
    for first, end in ((0, 3), (3, 5)):
        alone = model.encode(model.items[items[:, first:end]])
        torch.testing.assert_close(together[:, first:end], alone)
        for known in range(1, end - first):
            prefix = model.encode(model.items[items[:, first : first + known]])
            torch.testing.assert_close(together[:, first : first + known], prefix)
    assert not torch.allclose(together[0, 2], model.encode(model.items[items[:, [1, 0, 2]]])[0, 2])


def test_with_all_items_as_negatives_the_loss_is_the_softmax() -> None:
    scores, targets = torch.randn(7, 12), torch.randint(12, (7,))
    own = scores.gather(1, targets[:, None])[:, 0]
    others = scores.scatter(1, targets[:, None], -np.inf)
    torch.testing.assert_close(sampled_softmax(own, others), cross_entropy(scores, targets, reduction="none"))


def test_gbce_lies_between_plain_and_calibrated_cross_entropy() -> None:
    own, others = torch.randn(4), torch.randn(4, 3)
    plain = softplus(others).sum(1) - logsigmoid(own)
    torch.testing.assert_close(calibrated_bce(own, others, compute_calibration_power(0.1, 0.0)), plain)
    assert compute_calibration_power(0.1, 1.0) == pytest.approx(0.1)
    assert compute_calibration_power(1.0, 0.75) == 1.0


@pytest.mark.parametrize("settings", [SETTINGS, dataclasses.replace(SETTINGS, loss="gbce", negatives=100)])
def test_it_learns_what_follows_what(settings: AttentionTraining) -> None:
    # Items in a ring: each is followed by the next.
    start = np.random.default_rng(2).integers(0, 12, 200)
    items = ((start[:, None] + np.arange(4)) % 12).astype(np.int32)
    sessions = Sequences(items.ravel(), np.arange(0, 801, 4))
    trainer = AttentionTrainer(network(), sessions, dataclasses.replace(settings, batch=16, learning_rate=0.03), 1)
    losses = [trainer.epoch(number) for number in range(8)]
    assert losses[-1] < losses[0] / 3
    asked = Sequences(np.arange(12, dtype=np.int32), np.arange(13))
    scores = trainer.network.scores(trainer.network.compute_states(asked))
    assert (scores.argmax(1) == (np.arange(12) + 1) % 12).all()


def test_rows_alone_learn_as_the_whole_table_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every item is a negative of every step, so every row is touched and Adam forgets nothing in between.
    settings = dataclasses.replace(SETTINGS, negatives=12)
    whole = AttentionTrainer(network(), sequences(50, 8), settings, 1)
    monkeypatch.setattr(attention_training, "_TABLE_SHARE", 0)
    alone = AttentionTrainer(network(), sequences(50, 8), settings, 1)
    assert (whole.adam.table is None, alone.adam.table is None) == (True, False)
    for number in range(2):
        assert whole.epoch(number) == pytest.approx(alone.epoch(number), rel=1e-4)
    torch.testing.assert_close(whole.network.items, alone.network.items, rtol=1e-3, atol=1e-4)


def test_steps_from_fixed_memory_are_the_same_steps() -> None:
    # What a CUDA graph replays: every shape is the first step's, and no step asks the device for anything.
    one, other = (AttentionTrainer(network(), sequences(150, 8), SETTINGS, 1) for _ in range(2))
    other.run = ReplayedSteps(other.step, graph=False, most=other.blocks.count_block_steps())
    assert [one.epoch(number) for number in range(2)] == [other.epoch(number) for number in range(2)]


def test_a_million_items_and_sessions_of_one_event_and_of_a_thousand() -> None:
    rng = np.random.default_rng(1)
    lengths = np.array([1, 1000, 2, 1, 1000])
    items = rng.integers(0, 1_000_000, lengths.sum(), dtype=np.int32)
    sessions = Sequences(items, np.concatenate([[0], np.cumsum(lengths)]))
    shape = AttentionShape(1_000_000, width=4, blocks=1, max_events=20)
    counts = np.bincount(items, minlength=shape.n_items)
    trainer = AttentionTrainer(AttentionNetwork.draw(shape, counts, {}, 1, CPU), sessions, SETTINGS, 1)
    before = trainer.network.items.clone()
    assert np.isfinite(trainer.epoch(0))
    touched = (trainer.network.items != before).any(1).numpy()
    assert touched.any()
    assert (counts[touched] > 0).all()


def test_nothing_that_follows_is_nothing_to_learn() -> None:
    trainer = AttentionTrainer(network(), Sequences(np.zeros(3, np.int32), np.arange(4)), SETTINGS, 1)
    assert trainer.epoch(0) == 0.0


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        dataclasses.replace(SHAPE, heads=3)
