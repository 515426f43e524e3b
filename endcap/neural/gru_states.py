"""The state of a GRU after a few short sessions, on one thread, as serving needs it.

A step of one session multiplies 3 * width * width numbers, which takes less time than PyTorch needs to start its
operations. NumPy starts them in a fraction of that time. Where memory allows, the inputs are multiplied for the whole
catalogue beforehand, and a step is ten operations on memory that is kept. States of recent sessions are remembered: a
session that comes back with one more event costs one step.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from endcap.neural.gru import EVENT, ITEM, GRUNetwork
from endcap.neural.sequences import Ints, Sequences

Floats = NDArray[np.float32]
TABLE_BYTES = 128 * 2**20
"""Of the table of what goes in for every item; where it would take more, requests multiply for themselves."""
KEPT_BYTES = 16 * 2**20
"""Of states that are remembered, twice: see `Recent`."""
_ENTRY_BYTES = 512
"""What a remembered state takes beside its numbers, about."""
_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_CANDIDATE, _RESET, _UPDATE = range(3)
_ORDER = [2, 0, 1]
"""Where these three stand in the weights of `torch.gru_cell`."""


class GRUStates:
    """Hidden states by the weights that a network on the CPU has when this object is made.

    Parameters
    ----------
    network
        The network.
    table_bytes
        Most bytes of the table of all items' inputs; a larger table is not made.

    Notes
    -----
    The sigmoid of v is (1 + tanh(v/2)) / 2. So the weights of both gates are halved here, and so are the weights of the
    part that the reset gate lets through, since the reset gate comes doubled.
    """

    def __init__(self, network: GRUNetwork, table_bytes: int = TABLE_BYTES) -> None:
        weights = {name: _to_array(values) for name, values in network.weights.items()}
        self.width = width = network.width
        scale = np.array([1, 0.5, 0.5], dtype=np.float32)[:, None]
        # Of the hidden state come reset, update and what reset lets through of the candidate, in this order.
        hidden = weights["gru.hidden"].reshape(3, width, width) * _HALF
        self._hidden = np.ascontiguousarray(hidden.transpose(0, 2, 1))
        self._hidden_flat = np.ascontiguousarray(hidden.reshape(3 * width, width).T)
        hidden_bias = weights["gru.hidden_bias"].reshape(3, width)[_ORDER] * _HALF
        self._let_through = hidden_bias[_CANDIDATE]
        self._bias = (weights["gru.input_bias"].reshape(3, width)[_ORDER] * scale)[:, None]
        self._bias[_RESET:, 0] += hidden_bias[_RESET:]
        coming = weights["gru.input"].reshape(3, width, width)[_ORDER] * scale[:, None]
        self._input = np.ascontiguousarray(coming.transpose(0, 2, 1))
        self._items = weights["items"]
        self._codes = {name: values.numpy() for name, values in network.codes.items()}
        self._item_features = [(codes, weights[f"{ITEM}{name}"] @ self._input) for name, codes in self._codes.items()]
        self._features = {name: weights[f"{EVENT}{name}"] @ self._input for name in network.features}
        self._key_bytes = 4 * (1 + len(self._features))
        self._recent = RecentStates(KEPT_BYTES // (4 * width + _ENTRY_BYTES))
        small = 3 * self._items.nbytes <= table_bytes
        self._table = self._multiply_inputs(np.arange(len(self._items))) if small else None

    def compute_last_states(self, sessions: Sequences) -> Floats:
        """Return the hidden state after the last event of each session: float32 [n, width]. No session may be empty."""
        after = np.zeros((len(sessions), self.width), dtype=np.float32)
        remaining, keys = sessions.lengths, self._make_keys(sessions)
        for row, key in enumerate(keys):
            matched, state = self._recent.find_longest(key, self._key_bytes)
            if state is not None:
                after[row], remaining[row] = state, remaining[row] - matched
        order = np.argsort(-remaining, kind="stable")[: np.count_nonzero(remaining)]
        if len(order):
            events, running = _align_ends(remaining[order], sessions.offsets[1:][order])
            state = after[order]
            self._run(self._read_inputs(sessions, events), running, state)
            after[order] = state
            for row, values in zip(order.tolist(), state, strict=True):
                self._recent.keep(keys[row], values.copy())
        return after

    def _make_keys(self, sessions: Sequences) -> list[bytes]:
        """Return all that each session's state depends on, event after event, as bytes."""
        events = np.empty((len(sessions.items), 1 + len(self._features)), dtype=np.int32)
        events[:, 0] = sessions.items
        for column, name in enumerate(self._features, start=1):
            events[:, column] = sessions.codes[name]
        data, size = events.tobytes(), self._key_bytes
        ends = (sessions.offsets * size).tolist()
        return [data[begin:end] for begin, end in pairwise(ends)]

    def _multiply_inputs(self, items: NDArray[np.integer]) -> Floats:
        """Return what items add to the GRU, biases included: [3, e, width], candidate, reset, update."""
        coming: Floats = np.matmul(self._items[items], self._input)
        coming += self._bias
        for codes, feature in self._item_features:
            coming += feature[:, codes[items]]
        return coming

    def _read_inputs(self, sessions: Sequences, events: Ints) -> Floats:
        """Return what events add: [4, e, width]; the last of the four is what reset lets through of an empty state."""
        coming = np.empty((4, len(events), self.width), dtype=np.float32)
        coming[3] = self._let_through
        items = sessions.items[events]
        if self._table is None:
            coming[:3] = self._multiply_inputs(items)
        else:
            # Clipping, which no item needs, saves a copy in the memory given.
            np.take(self._table, items, axis=1, out=coming[:3], mode="clip")
        for name, feature in self._features.items():
            coming[:3] += feature[:, sessions.codes[name][events]]
        return coming

    def _run(self, coming: Floats, running: list[int], state: Floats) -> None:
        """Take sessions to their common end.

        state: [n, width], changed in place. running: the number of sessions in each step.
        """
        width, memory = self.width, np.empty(3 * state.size, dtype=np.float32)
        add, multiply, tanh = np.add, np.multiply, np.tanh
        end = count = 0
        for now in running:
            if now != count:
                count, own = now, state[:now]
                flat = memory[: 3 * now * width]
                gates = flat.reshape(3, now, width)
                both, reset, update, new = gates[:2], gates[0], gates[1], gates[2]
            begin, end = end, end + now
            if now == 1:
                np.dot(own[0], self._hidden_flat, flat)
            else:
                np.matmul(own, self._hidden, gates)
            add(gates, coming[1:, begin:end], gates)
            tanh(both, both)
            add(both, _ONE, both)
            multiply(new, reset, new)
            add(new, coming[0, begin:end], new)
            tanh(new, new)
            # The next state is new + update (state - new), and update comes doubled too.
            np.subtract(own, new, own)
            multiply(update, _HALF, update)
            multiply(own, update, own)
            add(own, new, own)


class RecentStates:
    """Remembers the last `size` states by what led to them, and up to as many before these.

    There are two dictionaries. The older one is dropped when the younger one is full. So they need neither an order nor
    a lock: each read and write of a dictionary is atomic, and if two threads find it full, the slower one only forgets
    a few states more.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._young: dict[bytes, Floats] = {}
        self._old: dict[bytes, Floats] = {}

    def find_longest(self, key: bytes, step: int) -> tuple[int, Floats | None]:
        """Find the longest beginning of a key whose state is known.

        Parameters
        ----------
        key
            All events of a session, as bytes.
        step
            Bytes of an event.

        Returns
        -------
        tuple
            The number of its events, and the state float32 [width]; 0 and None if no beginning is known.
        """
        young, old = self._young, self._old
        for size in range(len(key), 0, -step):
            start = key[:size]
            state = young.get(start)
            if state is None:
                state = old.get(start)
            if state is not None:
                return size // step, state
        return 0, None

    def keep(self, key: bytes, state: Floats) -> None:
        """Remember a state by its key. No one may change the state afterwards."""
        if len(self._young) >= self.size:
            self._old, self._young = self._young, {}
        self._young[key] = state


def _align_ends(lengths: Ints, ends: Ints) -> tuple[Ints, list[int]]:
    """Lay sessions out side by side so that all end together, the longest first.

    lengths: int64 [n], falling. ends: int64 [n], where each session's events end in the flat arrays. Returns the events
    step after step, int64 [e], and the number of sessions in each step.
    """
    if len(lengths) == 1:
        return np.arange(ends[0] - lengths[0], ends[0]), [1] * int(lengths[0])
    remaining = np.arange(lengths[0], 0, -1)[:, None]
    runs = remaining <= lengths
    return (ends - remaining)[runs], runs.sum(axis=1).tolist()


def _to_array(values: Tensor) -> Floats:
    array: Floats = values.numpy()
    return array
