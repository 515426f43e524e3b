"""The network of GRU4Rec: item embeddings, a GRU over the session, and scores of all items."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from endcap.neural.products import score_all
from endcap.neural.sequences import Ints, Sequences, lay_out_lanes
from endcap.neural.threads import limit_threads

EVENT, ITEM = "feature.", "item-feature."


@dataclass(frozen=True)
class GRUShape:
    """Sizes of the network.

    Attributes
    ----------
    n_items
        Items of the catalogue.
    width
        Size of the hidden state and of the embeddings.
    separate
        Whether a table of its own scores the items.
    event_codes, item_codes
        Number of codes of each event feature and of each item feature, by name.
    """

    n_items: int
    width: int
    separate: bool = False
    event_codes: Mapping[str, int] = field(default_factory=dict)
    item_codes: Mapping[str, int] = field(default_factory=dict)

    def dense(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights that every step changes, by name; the GRU's are as in `torch.gru_cell`."""
        wide = 3 * self.width
        return {
            "gru.input": (wide, self.width),
            "gru.hidden": (wide, self.width),
            "gru.input_bias": (wide,),
            "gru.hidden_bias": (wide,),
            **{f"{EVENT}{name}": (size, self.width) for name, size in self.event_codes.items()},
            **{f"{ITEM}{name}": (size, self.width) for name, size in self.item_codes.items()},
        }


class GRUNetwork:
    """The weights of the network, by name, each float32, and the codes of the items' features.

    Parameters
    ----------
    weights
        Tensors by name, see the notes.
    codes
        int64 [n_items] by item feature.

    Notes
    -----
    ``items`` [n_items, width]: embeddings of the items that go in; they also score items, unless there is ``output`` of
    the same shape. ``bias`` [n_items]: added to an item's score, -inf for an item that training does not have.
    ``gru.*``: as in `torch.gru_cell`. ``feature.<name>`` [codes, width] of an event feature and ``item-feature.<name>``
    of an item feature are added to the embedding that goes in.
    """

    def __init__(self, weights: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> None:
        self.weights, self.codes = dict(weights), dict(codes)
        self.items, self.bias = self.weights["items"], self.weights["bias"]
        self.output = self.weights.get("output", self.items)
        self.width = self.items.shape[1]
        self.features = [name.removeprefix(EVENT) for name in self.weights if name.startswith(EVENT)]

    @classmethod
    def draw(cls, shape: GRUShape, known: NDArray[np.bool_], codes: Mapping[str, Ints], seed: int) -> GRUNetwork:
        """Return a network with random weights, drawn by a generator of its own.

        Parameters
        ----------
        shape
            Sizes.
        known
            bool [n_items], whether an item is in training; others get a bias of -inf.
        codes
            int64 [n_items] by item feature.
        seed
            Seed of the generator.

        Notes
        -----
        Matrices and tables are uniform (Glorot and Bengio, 2010), each gate's matrix as one of its own; biases are 0.
        """
        generator = torch.Generator().manual_seed(seed)
        weights: dict[str, Tensor] = {}
        tables = dict.fromkeys(["items", "output"] if shape.separate else ["items"], (shape.n_items, shape.width))
        for name, size in {**tables, **shape.dense()}.items():
            weights[name] = torch.zeros(size)
            if len(size) > 1:
                rows = size[0] // 3 if name.startswith("gru.") else size[0]
                bound = math.sqrt(6 / (rows + size[1]))
                weights[name].uniform_(-bound, bound, generator=generator)
        weights["bias"] = torch.where(torch.from_numpy(known), 0.0, -math.inf)
        return cls(weights, {name: torch.from_numpy(values) for name, values in codes.items()})

    @functools.cached_property
    def shape(self) -> GRUShape:
        """The sizes of the weights."""
        sizes = {name: len(values) for name, values in self.weights.items()}
        return GRUShape(
            len(self.items),
            self.width,
            "output" in self.weights,
            {name: sizes[f"{EVENT}{name}"] for name in self.features},
            {name: sizes[f"{ITEM}{name}"] for name in self.codes},
        )

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.items.device

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return a copy of all weights and codes, by name; `from_arrays` takes it."""
        weights = {name: values.detach().cpu().numpy().copy() for name, values in self.weights.items()}
        return weights | {f"codes.{name}": values.cpu().numpy() for name, values in self.codes.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> GRUNetwork:
        """Return the network that `arrays` wrote, on a device."""
        tensors = {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
        codes = {name.removeprefix("codes."): v for name, v in tensors.items() if name.startswith("codes.")}
        return cls({name: v for name, v in tensors.items() if not name.startswith("codes.")}, codes)

    def to(self, device: torch.device) -> GRUNetwork:
        """Return the network on a device."""
        return GRUNetwork(
            {name: values.to(device) for name, values in self.weights.items()},
            {name: values.to(device) for name, values in self.codes.items()},
        )

    def hidden(self, sessions: Sequences) -> Tensor:
        """Return the hidden state after each event: [e, width], in the order of the events."""
        order, starts = lay_out_lanes(sessions.lengths)
        events = torch.from_numpy(order).to(self.device)
        items = torch.from_numpy(sessions.items.astype(np.int64)).to(self.device)[events]
        gru = [self.weights[f"gru.{name}"] for name in ("input", "hidden", "input_bias", "hidden_bias")]
        with torch.inference_mode(), limit_threads(3 * len(items) * self.width * self.width):
            inputs = self.items[items]
            for name, codes in self.codes.items():
                inputs += self.weights[f"{ITEM}{name}"][codes[items]]
            for name in self.features:
                codes = torch.from_numpy(sessions.codes[name]).to(self.device)[events]
                inputs += self.weights[f"{EVENT}{name}"][codes]
            state = torch.zeros(int(starts[1]) if len(starts) > 1 else 0, self.width, device=self.device)
            after = torch.empty(len(items), self.width, device=self.device)
            for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
                state = torch.gru_cell(inputs[begin:end], state[: end - begin], *gru)
                after[events[begin:end]] = state
        return after

    def scores(self, hidden: Tensor) -> NDArray[np.float32]:
        """Return the scores of every item for hidden states [n, width]: float32 [n, n_items]."""
        return score_all(hidden, self.output, self.bias)
