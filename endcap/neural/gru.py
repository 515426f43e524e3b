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
    """n_items: the catalogue. width: of the hidden state and the embeddings. separate: whether items are scored by a
    table of their own. event_codes, item_codes: how many codes each feature of events and of items has."""

    n_items: int
    width: int
    separate: bool = False
    event_codes: Mapping[str, int] = field(default_factory=dict)
    item_codes: Mapping[str, int] = field(default_factory=dict)

    def dense(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights that every step changes; the GRU's are as in `torch.gru_cell`."""
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
    """Weights by name, each float32, and the codes of the items' features.

    items: [n_items, width], embeddings of what goes in; also of what comes out, unless there is `output`, of the same
    shape. bias: [n_items], added to an item's score (-inf: never seen in training). gru.*: as in `torch.gru_cell`.
    feature.<name>: [codes, width] of an event's feature; item-feature.<name>: of an item's; both are added to the
    embedding that goes in. codes: by item feature, int64 [n_items].
    """

    def __init__(self, weights: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> None:
        self.weights, self.codes = dict(weights), dict(codes)
        self.items, self.bias = self.weights["items"], self.weights["bias"]
        self.output = self.weights.get("output", self.items)
        self.width = self.items.shape[1]
        self.features = [name.removeprefix(EVENT) for name in self.weights if name.startswith(EVENT)]

    @classmethod
    def drawn(cls, shape: GRUShape, known: NDArray[np.bool_], codes: Mapping[str, Ints], seed: int) -> GRUNetwork:
        """Weights from a generator of their own, on the CPU: uniform, of variance 2 / (rows + columns) (Glorot and
        Bengio, 2010), where a gate counts as a matrix of its own; biases 0. known: [n_items], seen in training."""
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
        """Of the weights, whose sizes stay."""
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
        return self.items.device

    def arrays(self) -> dict[str, NDArray[Any]]:
        """A copy of all weights and codes, by name; `from_arrays` takes it."""
        weights = {name: values.detach().cpu().numpy().copy() for name, values in self.weights.items()}
        return weights | {f"codes.{name}": values.cpu().numpy() for name, values in self.codes.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> GRUNetwork:
        tensors = {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
        codes = {name.removeprefix("codes."): v for name, v in tensors.items() if name.startswith("codes.")}
        return cls({name: v for name, v in tensors.items() if not name.startswith("codes.")}, codes)

    def to(self, device: torch.device) -> GRUNetwork:
        return GRUNetwork(
            {name: values.to(device) for name, values in self.weights.items()},
            {name: values.to(device) for name, values in self.codes.items()},
        )

    def hidden(self, sessions: Sequences) -> Tensor:
        """The hidden state after each event: [e, width], in the order of the events."""
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
        """Scores of every item in each state [n, width]: float32 [n, n_items]."""
        return score_all(hidden, self.output, self.bias)
