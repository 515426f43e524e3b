"""Training: a dataset to a fitted model, and the winner of the gate to a package."""

from endcap.training.refit import refit
from endcap.training.train import describe, train

__all__ = ["describe", "refit", "train"]
