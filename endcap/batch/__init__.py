"""Recommendations made ahead of time: every customer's list, independent of training."""

from endcap.batch.publication import PATIENCE, publish_lists, roll_back, table
from endcap.batch.recommend import Made, Wanted, describe, newest_dataset, recommend
from endcap.batch.versions import served

__all__ = [
    "PATIENCE",
    "Made",
    "Wanted",
    "describe",
    "newest_dataset",
    "publish_lists",
    "recommend",
    "roll_back",
    "served",
    "table",
]
