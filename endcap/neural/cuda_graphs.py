"""Runs the steps of a block: one by one, or on a GPU as one CUDA graph that is replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor


class StepBlock(Protocol):
    """Tensors that have a row for each step."""

    def __len__(self) -> int: ...

    def tensors(self) -> list[Tensor]:
        """Return all tensors, always in the same order."""

    def like(self, tensors: Sequence[Tensor]) -> Self:
        """Return a block or step of other tensors, given in the order of `tensors`."""

    def steps(self) -> Iterator[Self]:
        """Yield the steps, as views."""


B = TypeVar("B", bound=StepBlock)


class EagerSteps(Generic[B]):
    """Runs a block's steps one by one. step: trains one step."""

    def __init__(self, step: Callable[[B], None]) -> None:
        self.step = step

    def __call__(self, block: B) -> None:
        for batch in block.steps():
            self.step(batch)


class ReplayedSteps(Generic[B]):
    """Runs steps on fixed memory, where a counter on the device says which step is next, so that no step needs the
    host.

    Parameters
    ----------
    step
        Trains one step.
    graph
        Whether the step is captured once as a CUDA graph and replayed (CUDA only). The first block runs step by step,
        which makes the libraries and the memory ready.
    most
        Steps of the longest block, where the first block may be shorter.

    Notes
    -----
    All blocks' tensors have the shapes of the first block's, except for the number of steps.
    """

    def __init__(self, step: Callable[[B], None], *, graph: bool, most: int = 0) -> None:
        self.step, self.captures, self.most = step, graph, most
        self._graph: torch.cuda.CUDAGraph | None = None
        self._laid_out: list[Tensor] = []
        self._current: list[Tensor] = []
        self._batch: B | None = None

    def __call__(self, block: B) -> None:
        warm = self._batch is not None
        if not warm:
            steps = max(len(block), self.most)
            self._laid_out = [values.new_empty(steps, *values.shape[1:]) for values in block.tensors()]
            self._current = [torch.empty_like(values[:1]) for values in self._laid_out]
            self._batch = block.like([values[0] for values in self._current])
            self._next = torch.zeros(1, dtype=torch.int64, device=self._laid_out[0].device)
        for place, values in zip(self._laid_out, block.tensors(), strict=True):
            place[: len(block)].copy_(values)
        if warm and self.captures and self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._advance()
        self._next.zero_()
        for _ in range(len(block)):
            self._advance() if self._graph is None else self._graph.replay()

    def _advance(self) -> None:
        for place, values in zip(self._current, self._laid_out, strict=True):
            torch.index_select(values, 0, self._next, out=place)
        self._next.add_(1)
        assert self._batch is not None
        self.step(self._batch)
