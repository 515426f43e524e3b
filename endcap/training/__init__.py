"""Training: from a dataset to a fitted model, the champion's recipe, and from the gate's winner to a package."""

from endcap.training.recipes import fit_champion, fit_version
from endcap.training.refit import refit
from endcap.training.train import describe, train

__all__ = ["describe", "fit_champion", "fit_version", "refit", "train"]
