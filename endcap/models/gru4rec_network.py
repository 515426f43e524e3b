"""The network of GRU4Rec: one table of item embeddings, used going in and coming out, and a GRU between."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from endcap.errors import UserError
from endcap.features.sessions import Ints, Sessions
from endcap.models.gru4rec_batches import side_by_side

_MOST_BUCKETS = 1000
_HEAVY = 10**8  # multiplications from which on a second thread pays


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Network:
    """Weights by name, each float32.

    items: [n_items, width], embeddings. bias: [n_items], added to an item's logit (-inf: never seen in training).
    gru.*: the GRU's weights as in `torch.gru_cell`. feature.<name>: [buckets, width], added to the item's embedding.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = dict(weights)
        self.items, self.bias = self.weights["items"], self.weights["bias"]
        self.width = self.items.shape[1]
        self.features = [name.removeprefix("feature.") for name in self.weights if name.startswith("feature.")]

    @classmethod
    def drawn(cls, counts: Ints, width: int, buckets: Mapping[str, int], seed: int, device: torch.device) -> Network:
        """Weights uniform in ±1/sqrt(width), from a generator of their own; biases 0. counts: events of each item."""
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(width)
        shapes = {
            "items": (len(counts), width),
            "gru.input": (3 * width, width),
            "gru.hidden": (3 * width, width),
            "gru.input_bias": (3 * width,),
            "gru.hidden_bias": (3 * width,),
            **{f"feature.{name}": (size, width) for name, size in buckets.items()},
        }
        weights = {
            name: torch.empty(shape).uniform_(-bound, bound, generator=generator) for name, shape in shapes.items()
        }
        weights["bias"] = torch.where(torch.from_numpy(counts > 0), 0.0, -math.inf)
        return cls({name: values.to(device) for name, values in weights.items()})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> Network:
        """The network whose `arrays` these are."""
        return cls({name: torch.from_numpy(values).to(device) for name, values in arrays.items()})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """A copy of all weights, by name."""
        return {name: values.detach().cpu().numpy().copy() for name, values in self.weights.items()}

    def dense(self) -> dict[str, Tensor]:
        """The weights that every step changes: all but those with a row an item."""
        return {name: values for name, values in self.weights.items() if name not in ("items", "bias")}

    def inputs(self, embedded: Tensor, buckets: Mapping[str, Tensor]) -> Tensor:
        """What goes into the GRU: [b, width], from item embeddings [b, width] and each feature's bucket int64 [b]."""
        for name, values in buckets.items():
            embedded = embedded + self.weights[f"feature.{name}"][values]
        return embedded

    def step(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """The next hidden state: [b, width]."""
        gru = (self.weights[f"gru.{name}"] for name in ("input", "hidden", "input_bias", "hidden_bias"))
        return torch.gru_cell(inputs, hidden, *gru)

    def scores(self, sessions: Sessions) -> NDArray[np.float32]:
        """Logits of every item after each session: [n, n_items]. Sessions without events: after nothing."""
        device = self.items.device
        steps, lane = side_by_side(sessions)
        items = torch.from_numpy(sessions.items[steps.events].astype(np.int64)).to(device)
        buckets = {
            name: torch.from_numpy(values[steps.events]).to(device) for name, values in self.buckets(sessions).items()
        }
        work = (len(sessions) * len(self.items) + 3 * len(items) * self.width) * self.width
        with torch.inference_mode(), few_threads(work):
            inputs = self.inputs(self.items[items], buckets)
            hidden = torch.zeros(len(sessions), self.width, device=device)
            for begin, end in zip(steps.starts[:-1].tolist(), steps.starts[1:].tolist(), strict=True):
                hidden[: end - begin] = self.step(inputs[begin:end], hidden[: end - begin])
            ordered = hidden[torch.from_numpy(lane).to(device)]
            logits = torch.addmm(self.bias, ordered, self.items.T)
            scores: NDArray[np.float32] = logits.cpu().numpy()
        return scores

    def buckets(self, sessions: Sessions) -> dict[str, Ints]:
        """Each feature's bucket of each event: int64 [e]; values that training did not reach go to its last bucket."""
        sizes = {name: len(self.weights[f"feature.{name}"]) for name in self.features}
        return {name: np.clip(_whole(sessions, name), 0, size - 1) for name, size in sizes.items()}


@contextlib.contextmanager
def few_threads(work: int) -> Iterator[None]:
    """PyTorch on one thread while `work`, the multiplications of one operation, is small.

    Threads of small operations mostly wait for each other; where another process wants the cores too, such operations
    were seen to take ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if work >= _HEAVY else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bucket_counts(train: Sessions, names: list[str]) -> dict[str, int]:
    """How many buckets each feature has in training. Raises UserError where a feature is missing or not bucketed."""
    counts = {name: int(_whole(train, name).max(initial=0)) + 1 for name in names}
    for name, count in counts.items():
        if count > _MOST_BUCKETS:
            raise UserError(
                f"model.features: {name!r} has values up to {count - 1}; at most {_MOST_BUCKETS - 1} is allowed: "
                "give it `buckets` in the shop's file"
            )
    return counts


def _whole(sessions: Sessions, name: str) -> Ints:
    if name not in sessions.features:
        declared = ", ".join(sessions.features) or "none"
        raise UserError(f"model.features names {name!r}, which the shop does not declare; declared: {declared}")
    return sessions.features[name].astype(np.int64)
