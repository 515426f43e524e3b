"""A registered version, rebuilt in a clean store from its snapshot, and compared with the original."""

from endcap.reproduction.comparison import Circumstance, Compared
from endcap.reproduction.reproduce import Reproduction, reproduce

__all__ = ["Circumstance", "Compared", "Reproduction", "reproduce"]
