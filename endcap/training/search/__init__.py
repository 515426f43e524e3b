"""Find a model's settings: Ray Tune runs trials, ASHA ends those that fall behind, Optuna says what to try next."""

from endcap.training.search.outcome import SearchResult, settle
from endcap.training.search.search import is_searched, search

__all__ = ["SearchResult", "is_searched", "search", "settle"]
