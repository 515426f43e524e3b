"""The network of SASRec: causal self-attention over a session (Kang and McAuley, 2018).

The network differs from the paper in two ways. LayerNorm comes before each part of a block, not after it. And positions
are counted back from each event that something is predicted after: a learned number for each distance is added to the
attention (Shaw et al., 2018; Raffel et al., 2020, section 2.1), where the paper learns positions of the whole sequence.
So the scores after a prefix depend neither on what follows it nor on where a long session was cut.
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
    """Sizes of the network.

    Attributes
    ----------
    n_items
        Items of the catalogue.
    width
        Size of the embeddings and of the states.
    blocks
        Number of attention blocks.
    heads
        Attention heads of a block; they divide the width.
    max_events
        Events of the longest session.
    features
        Number of buckets of each event feature, by name.
    item_features
        Number of codes of each item attribute, by name.

    Raises
    ------
    ValueError
        The heads do not divide the width.
    """

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
        """The number of places of dropout: one for the inputs, and two a block, for what attention and layers add."""
        return 1 + 2 * self.blocks

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight, by name."""
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
    """The weights of the network, by name, each float32.

    Parameters
    ----------
    shape
        Sizes.
    weights
        A tensor for each name of `AttentionShape.weights`.
    codes
        int64 [n_items] by item attribute, -1 where an item has none.

    Notes
    -----
    ``items`` [n_items, width]: embeddings, the same for items of a session and for items that are scored. ``bias``
    [n_items]: added to an item's logit, -inf for an item that training does not have. ``block.<i>.*``: see
    `_apply_block`; ``distance`` [heads, max_events] is added to the attention by the number of events between two.
    ``feature.<name>`` [buckets, width] and ``item_feature.<name>`` [codes + 1, width] (the last row: no code) are added
    to the embeddings of a session's items.
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
        """The item embeddings: float32 [n_items, width]."""
        return self.weights["items"]

    @property
    def bias(self) -> Tensor:
        """The items' biases: float32 [n_items]."""
        return self.weights["bias"]

    @classmethod
    def draw(
        cls, shape: AttentionShape, counts: Ints, codes: Mapping[str, Ints], seed: int, device: torch.device
    ) -> AttentionNetwork:
        """Return a network with random weights, drawn by a generator of its own.

        Parameters
        ----------
        shape
            Sizes.
        counts
            int64 [n_items], training events of each item.
        codes
            int64 [n_items] by item attribute, -1 where an item has none.
        seed
            Seed of the generator.
        device
            Where the weights are put.

        Notes
        -----
        Tables are normal with standard deviation 1/sqrt(width), matrices uniform (Glorot and Bengio, 2010), scales 1
        and all other weights 0.
        """
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
        """Return the network that `arrays` wrote.

        Parameters
        ----------
        shape
            Sizes.
        arrays
            What `arrays` returned.
        codes
            int64 [n_items] by item attribute, -1 where an item has none.
        device
            Where the weights are put.
        """
        # In one order always: what an optimiser keeps of the dense weights is one vector.
        return cls(shape, {name: torch.from_numpy(arrays[name]).to(device) for name in shape.weights()}, codes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return a copy of all weights, by name."""
        return {name: values.detach().cpu().numpy().copy() for name, values in self.weights.items()}

    def dense(self) -> dict[str, Tensor]:
        """Return the weights that every step changes: all that do not have a row for each item."""
        return {name: values for name, values in self.weights.items() if name not in ("items", "bias")}

    def inputs(self, embedded: Tensor, items: Tensor, buckets: Mapping[str, Tensor]) -> Tensor:
        """Return what goes into the first block.

        Parameters
        ----------
        embedded
            float32 [..., width], item embeddings.
        items
            int64 [...], the items.
        buckets
            int64 [...] by event feature.

        Returns
        -------
        Tensor
            [..., width].
        """
        for name, values in buckets.items():
            embedded = embedded + _select_rows(self.weights[f"feature.{name}"], values)
        for name, codes in self.codes.items():
            embedded = embedded + _select_rows(self.weights[f"item_feature.{name}"], codes[items])
        return embedded

    def encode(self, inputs: Tensor, segments: Tensor | None = None, dropout: Tensor | None = None) -> Tensor:
        """Return the state after each event.

        Parameters
        ----------
        inputs
            [r, l, width], what `inputs` returned.
        segments
            int64 [r, l]; an event attends to the events of its segment up to itself. None: a row is one segment.
        dropout
            [dropped, r, l, width], factors of the inputs and of what each part of each block adds; None: no dropout.

        Returns
        -------
        Tensor
            [r, l, width].
        """
        length = inputs.shape[1]
        visible = self._causal[:length, :length]
        if segments is not None:
            visible = visible & (segments[:, :, None] == segments[:, None, :])[:, None]
        dropped = (None,) * self.shape.dropped if dropout is None else dropout.unbind(0)
        states = _multiply(inputs, dropped[0])
        for number in range(self.shape.blocks):
            states = self._apply_block(f"block.{number}.", states, visible, *dropped[1 + 2 * number : 3 + 2 * number])
        return self._normalise("last", states)

    def compute_states(self, sessions: Sequences) -> Tensor:
        """Return the state after each event of sessions of at most max_events events: [e, width].

        Sessions of one length go through together, so that none is padded.
        """
        states = torch.zeros(len(sessions.items), self.shape.width, device=self.device)
        lengths = sessions.lengths
        work = min(len(sessions.items), _SCORED_EVENTS) * 3 * self.shape.width**2
        with torch.inference_mode(), limit_threads(work):
            for length in np.unique(lengths[lengths > 0]).tolist():
                same_length = np.flatnonzero(lengths == length)
                for begin in range(0, len(same_length), max(1, _SCORED_EVENTS // length)):
                    rows = same_length[begin : begin + max(1, _SCORED_EVENTS // length)]
                    events = sessions.offsets[rows, None] + np.arange(length)
                    states[torch.from_numpy(events).to(self.device)] = self.encode(self._read_inputs(sessions, events))
        return states

    def compute_last_states(self, sessions: Sequences) -> Tensor:
        """Return the state after the last event of sessions of 1 to max_events events: [n, width].

        A few sessions go through together, padded at their ends: the state after an event does not depend on later
        events.
        """
        if not 0 < len(sessions) <= FEW:
            return self.compute_states(sessions)[torch.from_numpy(sessions.offsets[1:] - 1)]
        lengths, begins = sessions.lengths[:, None], sessions.offsets[:-1, None]
        events = begins + np.minimum(np.arange(int(lengths.max())), lengths - 1)
        with torch.inference_mode(), limit_threads(events.size * 3 * self.shape.width**2):
            states = self.encode(self._read_inputs(sessions, events))
            return states[torch.arange(len(states)), torch.from_numpy(lengths[:, 0] - 1)]

    def _read_inputs(self, sessions: Sequences, events: Ints) -> Tensor:
        """Return the inputs of some events, int64 [r, l]: [r, l, width]."""
        items = torch.from_numpy(sessions.items[events].astype(np.int64)).to(self.device)
        buckets = {name: torch.from_numpy(values[events]).to(self.device) for name, values in sessions.codes.items()}
        return self.inputs(self.items[items], items, buckets)

    def scores(self, states: Tensor) -> NDArray[np.float32]:
        """Return the logits of every item: [n, n_items], from states [n, width]."""
        return score_all(states, self.items, self.bias)

    def _apply_block(
        self, block: str, states: Tensor, visible: Tensor, first: Tensor | None, second: Tensor | None
    ) -> Tensor:
        """Apply attention, then two layers event by event; each adds to the state."""
        weights, (rows, length, width) = self.weights, states.shape
        heads = self.shape.heads
        projected = linear(
            self._normalise(f"{block}before_attention", states),
            weights[f"{block}attend"],
            weights[f"{block}attend_bias"],
        )
        query, key, value = projected.view(rows, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        mask = torch.where(visible, lay_out_distances(weights[f"{block}distance"], length), -math.inf).to(query.dtype)
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).reshape(states.shape)
        states = states + _multiply(linear(attended, weights[f"{block}gather"], weights[f"{block}gather_bias"]), first)
        expanded = gelu(
            linear(
                self._normalise(f"{block}before_layers", states), weights[f"{block}rise"], weights[f"{block}rise_bias"]
            )
        )
        return states + _multiply(linear(expanded, weights[f"{block}fall"], weights[f"{block}fall_bias"]), second)

    def _normalise(self, name: str, states: Tensor) -> Tensor:
        return layer_norm(states, states.shape[-1:], self.weights[f"{name}.scale"], self.weights[f"{name}.shift"])


def lay_out_distances(values: Tensor, length: int) -> Tensor:
    """Lay numbers by distance out as a square, as attention needs them.

    Parameters
    ----------
    values
        [h, at least length], a number for each distance.
    length
        Events.

    Returns
    -------
    Tensor
        [h, length, length] with values[:, i - j] at row i and column j <= i.

    Notes
    -----
    A repeated row that is read one entry shorter than it is shifts by one from line to line. Unlike an index, this has
    a gradient that is quick and the same every time.
    """
    heads = len(values)
    row = torch.cat([values[:, :1], values.new_zeros(heads, length), values[:, 1:length].flip(1)], dim=1)
    shifted = row.repeat(1, length)[:, : length * (2 * length - 1)].view(heads, length, 2 * length - 1)
    return shifted[:, :, :length]


def _select_rows(table: Tensor, index: Tensor) -> Tensor:
    """Return [..., width], from [n, width] and int64 [...]; the gradient asks no size of the device."""
    return table.index_select(0, index.reshape(-1)).view(*index.shape, -1)


def _multiply(values: Tensor, by: Tensor | None) -> Tensor:
    return values if by is None else values * by
