"""Neural collaborative filtering: users and items as embeddings, GMF, MLP and both fused (He et al., 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear, relu

from endcap.neural.threads import limit_threads

Ints = NDArray[np.int64]
_SCORED_NUMBERS = 8_000_000  # of the widest layer, worked on at a time


@dataclass(frozen=True)
class FactorsShape:
    """Sizes of the network.

    Attributes
    ----------
    variant
        `gmf`, `mlp`, or `neumf`, which fuses both.
    width
        Size of each part of an embedding: GMF's and the MLP's.
    layers
        Sizes of the MLP's hidden layers.
    """

    variant: Literal["gmf", "mlp", "neumf"] = "neumf"
    width: int = 32
    layers: tuple[int, ...] = (64, 32, 16)

    @property
    def product(self) -> int:
        """How many numbers of an embedding GMF multiplies; the MLP reads the numbers after them."""
        return 0 if self.variant == "mlp" else self.width

    @property
    def read(self) -> int:
        """How many numbers of an embedding the MLP reads."""
        return 0 if self.variant == "gmf" else self.width

    @property
    def embedding(self) -> int:
        """Size of a whole embedding."""
        return self.product + self.read

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each dense weight, by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        if self.read:
            # The first layer reads user and item side by side: its matrix falls into one for each.
            first = self.layers[0]
            shapes |= {"user": (first, self.read), "item": (first, self.read), "layer.0.bias": (first,)}
            for number, (before, after) in enumerate(zip(self.layers, self.layers[1:], strict=False), start=1):
                shapes |= {f"layer.{number}": (after, before), f"layer.{number}.bias": (after,)}
        ends = self.product + (self.layers[-1] if self.read else 0)
        return {**shapes, "out": (ends,), "out.bias": (1,)}


class Factors:
    """The network of neural collaborative filtering.

    Parameters
    ----------
    shape
        Sizes.
    users
        float32 [u, e], the users' embeddings.
    items
        float32 [n, e], the items' embeddings.
    dense
        float32 [p], all other weights as one vector.

    Notes
    -----
    A pair's logit is out · [p * q, MLP(p', q')] + bias (He et al., 2017, equation 12). p and q are the first `product`
    numbers of the two embeddings, p' and q' the others.
    """

    def __init__(self, shape: FactorsShape, users: Tensor, items: Tensor, dense: Tensor) -> None:
        self.shape, self.users, self.items, self.dense = shape, users, items, dense
        self.device = items.device

    @classmethod
    def draw(cls, shape: FactorsShape, users: int, items: int, seed: int, device: torch.device) -> Factors:
        """Return a network with random weights, drawn by a generator of its own.

        Embeddings are normal with standard deviation 0.01 (section 4.1 of the paper), matrices uniform (Glorot and
        Bengio, 2010), biases 0.
        """
        generator = torch.Generator().manual_seed(seed)
        tables = [torch.empty(rows, shape.embedding).normal_(0, 0.01, generator=generator) for rows in (users, items)]
        parts = []
        for name, size in shape.weights().items():
            n_inputs = 2 * shape.read if name in ("user", "item") else size[-1]
            n_outputs = size[0] if len(size) == 2 else 1
            bound = 0.0 if name.endswith("bias") else math.sqrt(6 / (n_inputs + n_outputs))
            parts.append(torch.empty(math.prod(size)).uniform_(-bound, bound, generator=generator))
        return cls(shape, tables[0].to(device), tables[1].to(device), torch.cat(parts).to(device))

    @classmethod
    def from_arrays(cls, shape: FactorsShape, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Factors:
        """Return the network that `arrays` wrote."""
        users, items, dense = (torch.from_numpy(arrays[name]).to(device) for name in ("users", "items", "dense"))
        return cls(shape, users, items, dense)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return a copy of all weights, by name."""
        named = {"users": self.users, "items": self.items, "dense": self.dense}
        return {name: values.detach().cpu().numpy().copy() for name, values in named.items()}

    def parts(self, dense: Tensor) -> dict[str, Tensor]:
        """Return the dense weights by name, as views of one vector."""
        shapes = self.shape.weights()
        pieces = torch.split(dense, [math.prod(size) for size in shapes.values()])
        return {name: piece.view(size) for (name, size), piece in zip(shapes.items(), pieces, strict=True)}

    def logits(
        self, users: Tensor, items: Tensor, parts: Mapping[str, Tensor], noise: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Compute the logits of pairs.

        Parameters
        ----------
        users
            [r, e], embeddings.
        items
            [r, c, e], embeddings of c items for each user; or [1, c, e], the same items for all users.
        parts
            What `parts` returned.
        noise
            Factors of dropout of the MLP's hidden layers, by the layer's number; None: no dropout.

        Returns
        -------
        Tensor
            [r, c].
        """
        shape = self.shape
        logits = parts["out.bias"].expand(len(users), items.shape[1])
        product, mlp_weights = parts["out"][: shape.product], parts["out"][shape.product :]
        if shape.product:
            weighted, item_part = users[:, : shape.product] * product, items[..., : shape.product]
            # Of few items each with its own user a batch of tiny matrix products would be slower than the sum.
            logits = logits + (
                weighted @ item_part[0].T if len(items) == 1 else (weighted[:, None] * item_part).sum(dim=2)
            )
        if shape.read:
            hidden = linear(users[:, shape.product :], parts["user"], parts["layer.0.bias"])[:, None]
            hidden = relu(hidden + linear(items[..., shape.product :], parts["item"]))
            hidden = hidden * noise["0"] if noise else hidden
            for number in range(1, len(shape.layers)):
                hidden = relu(linear(hidden, parts[f"layer.{number}"], parts[f"layer.{number}.bias"]))
                hidden = hidden * noise[str(number)] if noise else hidden
            logits = logits + hidden @ mlp_weights
        return logits

    def scores(self, users: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of every item for user embeddings float32 [r, e]: float32 [r, n]."""
        scores = np.empty((len(users), len(self.items)), dtype=np.float32)
        widest = max((1, *(self.shape.layers if self.shape.read else ())))
        columns = max(1, min(len(self.items), _SCORED_NUMBERS // widest))
        rows = max(1, _SCORED_NUMBERS // (widest * columns))
        parts = self.parts(self.dense)
        with torch.inference_mode(), limit_threads(min(rows, len(users)) * columns * widest * self.shape.width):
            for begin in range(0, len(users), rows):
                rows_of_users = torch.from_numpy(users[begin : begin + rows]).to(self.device)
                for first in range(0, len(self.items), columns):
                    part = self.logits(rows_of_users, self.items[None, first : first + columns], parts)
                    scores[begin : begin + rows, first : first + columns] = part.cpu().numpy()
        return scores

    def score_some(self, users: NDArray[np.float32], items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Return the logits of items[i] for user embedding i: float32 [len(items[i])] each.

        Parameters
        ----------
        users
            float32 [r, e], embeddings.
        items
            r arrays of item indices.
        """
        counts = [len(indices) for indices in items]
        pairs = np.concatenate([np.zeros(0, np.int32), *items]).astype(np.int64)
        widest = max((1, *(self.shape.layers if self.shape.read else ())))
        with torch.inference_mode(), limit_threads(len(pairs) * widest * self.shape.width):
            repeated = torch.from_numpy(np.repeat(users, counts, axis=0)).to(self.device)
            item_part = self.items[torch.from_numpy(pairs).to(self.device)][:, None]
            logits = self.logits(repeated, item_part, self.parts(self.dense))[:, 0].cpu()
            return [part.numpy() for part in torch.split(logits, counts)]
