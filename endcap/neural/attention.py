"""The network of SASRec: causal self-attention over a session (Kang and McAuley, 2018).

Differences from the paper: LayerNorm comes before each part of a block, not after it; and positions are counted back
from each event that something is predicted after, as a learned addition to the attention by distance (Shaw et al.,
2018; Raffel et al., 2020, section 2.1), rather than learned for places of the whole sequence. So what is said after a
prefix does not depend on what follows it, nor on where a long session was cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from endcap.neural.products import FEW, score_all
from endcap.neural.sequences import Ints, Sequences
from endcap.neural.threads import limit_threads

_SCORED_EVENTS = 8192  # of sessions that are encoded together


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of the network. features: buckets of each event feature; item_features: codes of each item attribute."""

    n_items: int
    width: int = 64
    blocks: int = 2
    heads: int = 1
    max_events: int = 50
    features: Mapping[str, int] = field(default_factory=dict)
    item_features: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")

    @property
    def dropped(self) -> int:
        """Places of dropout: the inputs, and what each block's attention and layers add."""
        return 1 + 2 * self.blocks

    def weights(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight, by name."""
        width = self.width
        block = {
            "before_attention.scale": (width,),
            "before_attention.shift": (width,),
            "distance": (self.heads, self.max_events),
            "attend": (3 * width, width),
            "attend_bias": (3 * width,),
            "gather": (width, width),
            "gather_bias": (width,),
            "before_layers.scale": (width,),
            "before_layers.shift": (width,),
            "rise": (width, width),
            "rise_bias": (width,),
            "fall": (width, width),
            "fall_bias": (width,),
        }
        return {
            "items": (self.n_items, width),
            "bias": (self.n_items,),
            **{f"block.{number}.{name}": shape for number in range(self.blocks) for name, shape in block.items()},
            "last.scale": (width,),
            "last.shift": (width,),
            **{f"feature.{name}": (size, width) for name, size in self.features.items()},
            **{f"item_feature.{name}": (size + 1, width) for name, size in self.item_features.items()},
        }


class AttentionNetwork:
    """Weights by name, each float32.

    items: [n_items, width], embeddings, the same for items of a session and for those that are scored. bias:
    [n_items], added to an item's logit (-inf: never seen in training). block.<i>.*: see `_block`; distance: [heads,
    max_events], added to the attention by how many events lie between. feature.<name>: [buckets, width] and
    item_feature.<name>: [codes + 1, width] (the last: no code), added to the embeddings of a session's items.
    codes: int64 [n_items] of each item feature, -1 where an item has none.
    """

    def __init__(self, shape: AttentionShape, weights: Mapping[str, Tensor], codes: Mapping[str, Ints]) -> None:
        self.shape, self.weights = shape, dict(weights)
        self.device = self.items.device
        self.codes = {
            name: torch.from_numpy(np.where(codes[name] < 0, size, codes[name])).to(self.device)
            for name, size in shape.item_features.items()
        }
        place = torch.arange(shape.max_events, device=self.device)
        self._causal = place[:, None] >= place

    @property
    def items(self) -> Tensor:
        return self.weights["items"]

    @property
    def bias(self) -> Tensor:
        return self.weights["bias"]

    @classmethod
    def drawn(
        cls, shape: AttentionShape, counts: Ints, codes: Mapping[str, Ints], seed: int, device: torch.device
    ) -> AttentionNetwork:
        """Tables normal with standard deviation 1/sqrt(width), matrices uniform (Glorot and Bengio, 2010), scales 1,
        the rest 0, from a generator of their own. counts: int64 [n_items], training events of each item."""
        generator = torch.Generator().manual_seed(seed)
        weights = {}
        for name, size in shape.weights().items():
            values = torch.zeros(size)
            if name == "items" or "feature." in name:
                values.normal_(0, 1 / math.sqrt(shape.width), generator=generator)
            elif name.endswith("scale"):
                values.fill_(1)
            elif len(size) == 2 and not name.endswith("distance"):
                bound = math.sqrt(6 / sum(size))
                values.uniform_(-bound, bound, generator=generator)
            weights[name] = values
        weights["bias"] = torch.where(torch.from_numpy(counts > 0), 0.0, -math.inf)
        return cls(shape, {name: values.to(device) for name, values in weights.items()}, codes)

    @classmethod
    def from_arrays(
        cls,
        shape: AttentionShape,
        arrays: Mapping[str, NDArray[Any]],
        codes: Mapping[str, Ints],
        device: torch.device,
    ) -> AttentionNetwork:
        """The network whose `arrays` these are."""
        # In one order always: what an optimiser keeps of the dense weights is one vector.
        return cls(shape, {name: torch.from_numpy(arrays[name]).to(device) for name in shape.weights()}, codes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """A copy of all weights, by name."""
        return {name: values.detach().cpu().numpy().copy() for name, values in self.weights.items()}

    def dense(self) -> dict[str, Tensor]:
        """The weights that every step changes: all but those with a row an item."""
        return {name: values for name, values in self.weights.items() if name not in ("items", "bias")}

    def inputs(self, embedded: Tensor, items: Tensor, buckets: Mapping[str, Tensor]) -> Tensor:
        """What goes into the first block: [..., width], from item embeddings [..., width], the items int64 [...] and
        each event feature's bucket int64 [...]."""
        for name, values in buckets.items():
            embedded = embedded + _rows(self.weights[f"feature.{name}"], values)
        for name, codes in self.codes.items():
            embedded = embedded + _rows(self.weights[f"item_feature.{name}"], codes[items])
        return embedded

    def encode(self, inputs: Tensor, segments: Tensor | None = None, dropout: Tensor | None = None) -> Tensor:
        """What is known after each event: [r, l, width], from inputs [r, l, width].

        segments: int64 [r, l]; an event sees the events up to itself that are of its segment. None: of its row.
        dropout: [dropped, r, l, width], what to multiply by the inputs, and by what each part of each block adds.
        """
        length = inputs.shape[1]
        sees = self._causal[:length, :length]
        if segments is not None:
            sees = sees & (segments[:, :, None] == segments[:, None, :])[:, None]
        dropped = (None,) * self.shape.dropped if dropout is None else dropout.unbind(0)
        known = _times(inputs, dropped[0])
        for number in range(self.shape.blocks):
            known = self._block(f"block.{number}.", known, sees, *dropped[1 + 2 * number : 3 + 2 * number])
        return self._norm("last", known)

    def known(self, sessions: Sequences) -> Tensor:
        """What is known after each event of sessions of at most max_events events: [e, width].

        Sessions of one length go through together, so that none is padded.
        """
        known = torch.zeros(len(sessions.items), self.shape.width, device=self.device)
        lengths = sessions.lengths
        work = min(len(sessions.items), _SCORED_EVENTS) * 3 * self.shape.width**2
        with torch.inference_mode(), limit_threads(work):
            for length in np.unique(lengths[lengths > 0]).tolist():
                alike = np.flatnonzero(lengths == length)
                for begin in range(0, len(alike), max(1, _SCORED_EVENTS // length)):
                    some = alike[begin : begin + max(1, _SCORED_EVENTS // length)]
                    events = sessions.offsets[some, None] + np.arange(length)
                    known[torch.from_numpy(events).to(self.device)] = self.encode(self._read(sessions, events))
        return known

    def known_at_end(self, sessions: Sequences) -> Tensor:
        """What is known after the last event of sessions of 1 to max_events events: [n, width].

        A few of them go through together, padded behind: what an event knows does not depend on those after it.
        """
        if not 0 < len(sessions) <= FEW:
            return self.known(sessions)[torch.from_numpy(sessions.offsets[1:] - 1)]
        lengths, begins = sessions.lengths[:, None], sessions.offsets[:-1, None]
        events = begins + np.minimum(np.arange(int(lengths.max())), lengths - 1)
        with torch.inference_mode(), limit_threads(events.size * 3 * self.shape.width**2):
            known = self.encode(self._read(sessions, events))
            return known[torch.arange(len(known)), torch.from_numpy(lengths[:, 0] - 1)]

    def _read(self, sessions: Sequences, events: Ints) -> Tensor:
        """What goes in of some events, int64 [r, l]: [r, l, width]."""
        items = torch.from_numpy(sessions.items[events].astype(np.int64)).to(self.device)
        buckets = {name: torch.from_numpy(values[events]).to(self.device) for name, values in sessions.codes.items()}
        return self.inputs(self.items[items], items, buckets)

    def scores(self, known: Tensor) -> NDArray[np.float32]:
        """Logits of every item: [n, n_items], from [n, width]."""
        return score_all(known, self.items, self.bias)

    def _block(self, block: str, known: Tensor, sees: Tensor, first: Tensor | None, second: Tensor | None) -> Tensor:
        """Attention, then two layers event by event; each adds to what is known."""
        weights, (rows, length, width) = self.weights, known.shape
        heads = self.shape.heads
        taken = linear(
            self._norm(f"{block}before_attention", known), weights[f"{block}attend"], weights[f"{block}attend_bias"]
        )
        query, key, value = taken.view(rows, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        mask = torch.where(sees, by_distance(weights[f"{block}distance"], length), -math.inf).to(query.dtype)
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).reshape(known.shape)
        known = known + _times(linear(attended, weights[f"{block}gather"], weights[f"{block}gather_bias"]), first)
        risen = gelu(
            linear(self._norm(f"{block}before_layers", known), weights[f"{block}rise"], weights[f"{block}rise_bias"])
        )
        return known + _times(linear(risen, weights[f"{block}fall"], weights[f"{block}fall_bias"]), second)

    def _norm(self, name: str, known: Tensor) -> Tensor:
        return layer_norm(known, known.shape[-1:], self.weights[f"{name}.scale"], self.weights[f"{name}.shift"])


def by_distance(values: Tensor, length: int) -> Tensor:
    """[h, length, length] with values[:, i - j] at row i and column j <= i, from [h, at least length].

    A repeated row, read one entry shorter than it is, is shifted by one from line to line: unlike an index, this has a
    gradient that is quick and the same every time.
    """
    heads = len(values)
    row = torch.cat([values[:, :1], values.new_zeros(heads, length), values[:, 1:length].flip(1)], dim=1)
    shifted = row.repeat(1, length)[:, : length * (2 * length - 1)].view(heads, length, 2 * length - 1)
    return shifted[:, :, :length]


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """[..., width], from [n, width] and int64 [...]; its gradient asks no size of the device."""
    return table.index_select(0, index.reshape(-1)).view(*index.shape, -1)


def _times(values: Tensor, by: Tensor | None) -> Tensor:
    return values if by is None else values * by
