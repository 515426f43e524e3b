"""How neural collaborative filtering is trained: items that users had against items that they did not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from endcap.neural.factors import Factors
from endcap.neural.optimisers import Adam, DenseOptimiser, TableOptimiser, combine
from endcap.neural.scratch import Scratch
from endcap.neural.threads import limit_threads

Ints = NDArray[np.int64]
_BLOCK_DRAWS = 2_000_000  # negatives that are drawn together
_ROUNDS = 50  # of drawing again what a user has


@dataclass(frozen=True)
class FactorsTraining:
    """Settings of the training of NeuMF.

    Attributes
    ----------
    batch
        Pairs of user and item in a step, negatives included.
    negatives
        Negatives of each true pair.
    learning_rate
        Step size of Adam.
    weight_decay
        L2 regularisation of the weights.
    dropout
        Share of the hidden layers' numbers that is dropped.
    """

    batch: int = 1024
    negatives: int = 4
    learning_rate: float = 0.001
    weight_decay: float = 0.0
    dropout: float = 0.0


class Pairs:
    """The distinct pairs of user and item, ordered by user and item.

    Parameters
    ----------
    users, items
        int64 [e] each, in any order and with repetitions.
    n_items
        Items of the catalogue.

    Attributes
    ----------
    users, items
        int64 [p] each.
    known
        int64, the items that any user had, ascending.
    """

    def __init__(self, users: Ints, items: Ints, n_items: int) -> None:
        self.n_items = max(n_items, 1)
        self._keys = np.unique(users * self.n_items + items)
        self.users, self.items = np.divmod(self._keys, self.n_items)
        self.known = np.unique(self.items)

    def __len__(self) -> int:
        return len(self._keys)

    def contains(self, users: Ints, items: Ints) -> NDArray[np.bool_]:
        """Return whether a user had an item, for each pair of int64 [e]: bool [e]."""
        keys = users * self.n_items + items
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        same: NDArray[np.bool_] = self._keys[place] == keys
        return same

    def negatives(self, users: Ints, count: int, rng: np.random.Generator) -> Ints:
        """Draw items that a user did not have, uniformly among the items that any user had.

        Parameters
        ----------
        users
            int64 [r].
        count
            Items for each user.
        rng
            Draws.

        Returns
        -------
        numpy.ndarray
            int64 [r, count]; -1 where fifty draws gave none, because the user has nearly all items.
        """
        owner = np.repeat(users, count)
        drawn = self.known[rng.integers(len(self.known), size=len(owner))]
        positive = np.flatnonzero(self.contains(owner, drawn))
        for _ in range(_ROUNDS):
            if not len(positive):
                break
            drawn[positive] = self.known[rng.integers(len(self.known), size=len(positive))]
            positive = positive[self.contains(owner[positive], drawn[positive])]
        drawn[positive] = -1
        return drawn.reshape(len(users), count)


class FactorsTrainer:
    """Trains the network epoch by epoch. Each epoch draws everything random from the seed and its number, so that
    training can begin at any epoch.

    A step is a fixed number of true pairs, each with its negatives. Pairs that the last step lacks have no weight, nor
    has a negative that was not found. Adam reads and writes only the embeddings of a step.

    Parameters
    ----------
    network
        The network to train, on the device to train on.
    pairs
        Pairs of user and item in training.
    settings
        Settings of the training.
    seed
        Seed of all that is random.
    """

    def __init__(self, network: Factors, pairs: Pairs, settings: FactorsTraining, seed: int) -> None:
        self.network, self.pairs, self.settings, self.seed = network, pairs, settings, seed
        rule = Adam(settings.learning_rate, weight_decay=settings.weight_decay)
        self.users, self.items = TableOptimiser(network.users, rule), TableOptimiser(network.items, rule)
        self.dense = DenseOptimiser(network.dense.clone(), rule)
        self.rows = max(1, settings.batch // (1 + settings.negatives))
        self._share_weights()
        self._scratch = {"users": Scratch(network.device), "items": Scratch(network.device)}
        self._places = {
            name: torch.zeros(table.padding + 1, dtype=torch.int64, device=network.device)
            for name, table in (("users", self.users), ("items", self.items))
        }

    def _share_weights(self) -> None:
        """Let the network score by the very memory that is trained."""
        network = self.network
        network.users, network.items, network.dense = self.users.values, self.items.values, self.dense.values

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that a later epoch depends on, by name."""
        kept = {
            "users": self.users.memory,
            "items": self.items.memory,
            "dense": self.dense.values,
            "dense_state": self.dense.state,
            "steps": self.dense.steps,
        }
        return {name: values.cpu().numpy().copy() for name, values in kept.items()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Continue from what `arrays` returned."""
        self.users.memory.copy_(torch.from_numpy(arrays["users"]))
        self.items.memory.copy_(torch.from_numpy(arrays["items"]))
        self.dense.values.copy_(torch.from_numpy(arrays["dense"]))
        self.dense.state.copy_(torch.from_numpy(arrays["dense_state"]))
        for part in (self.users, self.items, self.dense):
            part.steps.copy_(torch.from_numpy(arrays["steps"]))

    def epoch(self, number: int) -> float:
        """Train one epoch (from 0) and return its mean loss for a pair; 0 where no user had an item."""
        if not len(self.pairs):
            return 0.0
        rng = np.random.default_rng([self.seed, number])
        noise = torch.Generator(self.network.device).manual_seed(int(rng.integers(2**62)))
        total = torch.zeros((), device=self.network.device)
        weight = 0.0
        with limit_threads(self.settings.batch * self.network.shape.embedding * max(self.network.shape.layers)):
            for users, items, weights, sum_of_weights in self._lay_out_steps(rng):
                total += self._train_step(users, items, weights, noise)
                weight += sum_of_weights
        return float(total) * self.rows * (1 + self.settings.negatives) / weight

    def _lay_out_steps(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor, float]]:
        """Yield steps: users int64 [r], items int64 [r, 1 + negatives] with the true one first, float32 weights, their
        sum.
        """
        order = rng.permutation(len(self.pairs))
        width = 1 + self.settings.negatives
        size = max(1, _BLOCK_DRAWS // (width * self.rows)) * self.rows
        for begin in range(0, len(order), size):
            chosen = order[begin : begin + size]
            count = -(-len(chosen) // self.rows) * self.rows
            users = np.full(count, self.users.padding)
            items = np.full((count, width), -1)
            users[: len(chosen)] = self.pairs.users[chosen]
            items[: len(chosen), 0] = self.pairs.items[chosen]
            items[: len(chosen), 1:] = self.pairs.negatives(users[: len(chosen)], width - 1, rng)
            weights = (items >= 0).astype(np.float32)
            items[items < 0] = self.items.padding
            sums = weights.reshape(-1, self.rows * width).sum(axis=1).tolist()
            tensors = [torch.from_numpy(values).to(self.network.device) for values in (users, items, weights)]
            for step, weight_sum in enumerate(sums):
                part = slice(step * self.rows, (step + 1) * self.rows)
                yield tensors[0][part], tensors[1][part], tensors[2][part], weight_sum

    def _train_step(self, users: Tensor, items: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
        """Learn from one step; the sum of its losses by the number of its places."""
        flat = items.reshape(-1)
        user_rows = self.users.memory[users, 0].requires_grad_()
        item_rows = self.items.memory[flat, 0].requires_grad_()
        dense = self.dense.values.detach().requires_grad_()
        parts = self.network.parts(dense)
        logits = self.network.logits(
            user_rows, item_rows.view(*items.shape, -1), parts, self._draw_noise(items, generator)
        )
        truth = torch.zeros_like(logits)
        truth[:, 0] = 1.0
        loss = binary_cross_entropy_with_logits(logits, truth, weights)
        by_users, by_items, by_dense = torch.autograd.grad(loss, (user_rows, item_rows, dense))
        self._update("users", self.users, users, by_users)
        self._update("items", self.items, flat, by_items)
        self.dense.update(by_dense)
        return loss.detach()

    def _update(self, name: str, table: TableOptimiser, ids: Tensor, gradient: Tensor) -> None:
        rows, total = combine(ids, gradient, self._places[name], table.padding)
        scratch = self._scratch[name]
        before = scratch("before", len(rows), *table.memory.shape[1:])
        table.fetch(rows, before)
        table.update(rows, total, before, scratch)

    def _draw_noise(self, items: Tensor, generator: torch.Generator) -> dict[str, Tensor] | None:
        """Draw the factors of the hidden layers' dropout; None without dropout."""
        rate = self.settings.dropout
        if not rate or not self.network.shape.read:
            return None
        kept = 1.0 - rate
        return {
            str(number): torch.empty(*items.shape, width, device=self.network.device).bernoulli_(
                kept, generator=generator
            )
            / kept
            for number, width in enumerate(self.network.shape.layers)
        }
