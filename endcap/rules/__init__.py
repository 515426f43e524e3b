"""The business rules of a shop, applied alike in evaluation, batch and serving.

`endcap.rules.read` reads a shop's files; it is apart, for its engine is nothing that a server needs.
"""

from endcap.rules.catalogue import Catalogue
from endcap.rules.publish import fetch_catalogue, publish_catalogue
from endcap.rules.rulebook import ItemLookup, Rulebook

__all__ = ["Catalogue", "ItemLookup", "Rulebook", "fetch_catalogue", "publish_catalogue"]
