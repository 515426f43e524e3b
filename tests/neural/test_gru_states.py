"""What serving asks of a GRU: the states of a few sessions, as the network itself has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from endcap.neural.gru import GRUNetwork, GRUShape
from endcap.neural.gru_states import GRUStates, RecentStates
from endcap.neural.sequences import Sequences

N_ITEMS, WIDTH = 50, 12


@pytest.fixture(scope="module")
def network() -> GRUNetwork:
    """With an event feature and an item feature, and no weight at nought."""
    shape = GRUShape(N_ITEMS, WIDTH, False, {"hour": 4}, {"category": 3})
    made = GRUNetwork.draw(shape, np.ones(N_ITEMS, dtype=np.bool_), {"category": np.arange(N_ITEMS) % 3}, seed=1)
    generator = torch.Generator().manual_seed(2)
    for values in made.weights.values():
        values.add_(torch.empty(values.shape).normal_(0, 0.3, generator=generator))
    return made


def sequences(lengths: list[int], seed: int = 3) -> Sequences:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = rng.integers(0, N_ITEMS, offsets[-1]).astype(np.int32)
    return Sequences(items, offsets, {"hour": rng.integers(0, 4, len(items))})


def beginnings(sessions: Sequences, most: int) -> Sequences:
    """Each session's first events, at most so many."""
    place = np.arange(len(sessions.items)) - np.repeat(sessions.offsets[:-1], sessions.lengths)
    kept = np.flatnonzero(place < most)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(sessions.lengths, most))])
    return Sequences(sessions.items[kept], offsets, {"hour": sessions.codes["hour"][kept]})


def expected(network: GRUNetwork, sessions: Sequences) -> np.ndarray:
    return network.hidden(sessions)[torch.from_numpy(sessions.offsets[1:] - 1)].numpy()


@pytest.mark.parametrize("table_bytes", [0, 10**6], ids=["multiplied by request", "multiplied beforehand"])
def test_states_are_those_of_the_network(network: GRUNetwork, table_bytes: int) -> None:
    states = GRUStates(network, table_bytes)
    for lengths in ([1], [7], [3, 3, 3], [5, 1, 9, 2, 9], [0] * 0):
        sessions = sequences(lengths)
        found = states.compute_last_states(sessions)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(network, sessions), rtol=1e-5, atol=1e-6)


def test_sessions_that_grow_go_on_from_what_is_remembered(network: GRUNetwork) -> None:
    states, sessions = GRUStates(network), sequences([6, 1, 9, 4])
    run: list[int] = []
    real = states._run
    states._run = lambda coming, running, state: run.extend(running) or real(coming, running, state)  # type: ignore[method-assign, func-returns-value]
    for most in (2, 3, 9, 9):
        asked = beginnings(sessions, most)
        np.testing.assert_allclose(states.compute_last_states(asked), expected(network, asked), rtol=1e-5, atol=1e-6)
    # Nothing of an event that was there before; at last nothing at all.
    assert sum(run) == len(sessions.items)
    # The same items at other hours are another session.
    other = Sequences(sessions.items, sessions.offsets, {"hour": (sessions.codes["hour"] + 1) % 4})
    np.testing.assert_allclose(states.compute_last_states(other), expected(network, other), rtol=1e-5, atol=1e-6)
    assert sum(run) == 2 * len(sessions.items)


def test_what_is_remembered_is_the_caller_s_to_change(network: GRUNetwork) -> None:
    states, sessions = GRUStates(network), sequences([6, 2])
    for _ in range(2):
        found = states.compute_last_states(sessions)
        np.testing.assert_allclose(found, expected(network, sessions), rtol=1e-5, atol=1e-6)
        found[:] = 0


def test_a_memory_is_bounded_and_keeps_what_is_recent() -> None:
    recent, state = RecentStates(3), np.zeros(1, dtype=np.float32)
    for number in range(100):
        recent.keep(bytes([number, 0]), state)
        assert recent.find_longest(bytes([number, 0, 5, 5, 6, 6]), 2) == (1, state)
        assert len(recent._young) + len(recent._old) <= 6
    known = [number for number in range(100) if recent.find_longest(bytes([number, 0]), 2)[1] is not None]
    assert set(known) >= {97, 98, 99}
    assert recent.find_longest(b"", 2) == (0, None)
