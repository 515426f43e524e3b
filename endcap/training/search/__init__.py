"""Find a model's settings: Ray Tune runs trials, ASHA ends those that fall behind, Optuna says what to try next."""

from endcap.training.search.outcome import Searched, settled
from endcap.training.search.search import is_searched, search

__all__ = ["Searched", "is_searched", "search", "settled"]
