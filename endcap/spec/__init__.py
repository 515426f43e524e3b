"""The two files that a user writes, and how they are read."""

from endcap.spec.model import ModelSpec
from endcap.spec.recommender import Recommender
from endcap.spec.shop import Shop

__all__ = ["ModelSpec", "Recommender", "Shop"]
