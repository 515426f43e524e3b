"""The description of a shop's data. It is computed once, and steps, commands and the report show the same one."""

from endcap.description.describe import DescriptionWork, describe, read_newest_items
from endcap.description.tables import build_tables

__all__ = ["DescriptionWork", "build_tables", "describe", "read_newest_items"]
