"""Lists of recommendations made ahead of time for every customer, independent of training."""

from endcap.batch.publication import PATIENCE, name_lists_table, publish_lists, roll_back
from endcap.batch.recommend import ListRequest, VersionLists, describe_lists, newest_dataset, recommend
from endcap.batch.served_versions import find_served_versions

__all__ = [
    "PATIENCE",
    "ListRequest",
    "VersionLists",
    "describe_lists",
    "find_served_versions",
    "name_lists_table",
    "newest_dataset",
    "publish_lists",
    "recommend",
    "roll_back",
]
