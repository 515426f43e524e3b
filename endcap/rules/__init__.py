"""The business rules of a shop, applied alike in evaluation, batch and serving."""

from endcap.rules.catalogue import Catalogue
from endcap.rules.rulebook import Rulebook

__all__ = ["Catalogue", "Rulebook"]
