"""What can go wrong while a network trains."""

from __future__ import annotations


class DivergedError(FloatingPointError):
    """The loss of an epoch is no finite number any more."""

    def __init__(self, epoch: int, loss: float) -> None:
        super().__init__(f"the loss of epoch {epoch} is {loss}")
        self.epoch, self.loss = epoch, loss
