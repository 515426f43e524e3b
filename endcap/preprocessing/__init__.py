"""Preprocessing of one's own: steps that change the sessions that a model sees, in training and in serving alike."""

from endcap.features.split import where
from endcap.preprocessing.base import Preprocessor, Training
from endcap.preprocessing.steps import Preprocessing

__all__ = ["Preprocessing", "Preprocessor", "Training", "where"]
