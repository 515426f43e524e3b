"""The business rules of a shop, which evaluation, batch and serving apply alike.

`endcap.rules.read` reads a shop's files. It is not imported here, since a server does not need its engine.
"""

from endcap.rules.catalogue import Catalogue
from endcap.rules.publish import fetch_catalogue, publish_catalogue
from endcap.rules.rulebook import ItemLookup, Rulebook

__all__ = ["Catalogue", "ItemLookup", "Rulebook", "fetch_catalogue", "publish_catalogue"]
