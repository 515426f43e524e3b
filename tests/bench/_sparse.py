"""A simulated sparse shop: 20,000 customers who had 5 to 10 of 12,000 items each, as in a log of reviews."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

CUSTOMERS, ITEMS, GROUPS, ACCESSORIES = 20_000, 12_000, 600, 3
DAY = 86_400_000
BEGINS = 1_700_000_000_000
SHOP = """\
apiVersion: endcap/v2
kind: Shop
name: sparse
events:
  sources: [{path: ./sparse.csv}]
  columns: {session: customer, customer: customer, item: item, time: time}
  time: {unit: ms}
"""
RECOMMENDER = """\
apiVersion: endcap/v2
kind: Recommender
name: sparse
shop: ./shop.yaml
split: {by: leave-one-out}
model: {name: popularity}
exclude: seen
evaluation: {cutoffs: [10, 20]}
gate: []
"""


def write_sparse_shop(folder: Path, seed: int = 0, share: float = 1.0) -> None:
    """Write a log (sparse.csv), its shop (shop.yaml) and a recommender (sparse.yaml) into a folder.

    share: of the customers, items and groups."""
    sparse_log(seed, share).to_csv(folder / "sparse.csv", index=False)
    (folder / "shop.yaml").write_text(SHOP)
    (folder / "sparse.yaml").write_text(RECOMMENDER)


def sparse_log(seed: int = 0, share: float = 1.0) -> pd.DataFrame:
    """customer, item, time (epoch ms), in the order of customers and times.

    Item n is had by 1 / (n + 20)^0.8 and belongs to one of 600 groups. A customer likes three groups. Of events after
    the first, 12 % are one of three accessories of the item before, 8 % of the one before that, 35 % of a liked group,
    and the others by popularity alone; what a customer had is not had again. A customer's events lie in 60 days of 360.
    """
    rng = np.random.default_rng(seed)
    customers, items, groups = (round(share * whole) for whole in (CUSTOMERS, ITEMS, GROUPS))
    weight = 1 / (np.arange(items) + 20) ** 0.8
    group = rng.integers(0, groups, items)
    accessories = rng.integers(0, items, (items, ACCESSORIES))
    # Items in the order of their groups: within these the cumulated weight draws an item of one group, by popularity.
    order = np.argsort(group, kind="stable")
    cumulated = np.cumsum(weight[order])
    ends = cumulated[np.searchsorted(group[order], np.arange(groups), side="right") - 1]
    begins = np.concatenate([[0.0], ends[:-1]])
    popular = np.cumsum(weight)
    liked = np.searchsorted(ends, rng.random((customers, 3)) * ends[-1], side="right")
    counts = rng.integers(5, 11, customers)
    had = np.full((customers, 10), -1)
    for place in range(10):
        draw = rng.random(customers)
        item = np.searchsorted(popular, rng.random(customers) * popular[-1], side="right")
        taste = liked[np.arange(customers), rng.integers(0, 3, customers)]
        inside = begins[taste] + rng.random(customers) * (ends[taste] - begins[taste])
        of_taste = order[np.minimum(np.searchsorted(cumulated, inside, side="right"), items - 1)]
        item = np.where(draw < 0.55, of_taste, item)
        for back, share in ((2, 0.20), (1, 0.12)):
            if place >= back:
                near = accessories[had[:, place - back], rng.integers(0, ACCESSORIES, customers)]
                item = np.where(draw < share, near, item)
        again = (had == item[:, None]).any(axis=1)
        while again.any():
            item[again] = np.searchsorted(popular, rng.random(again.sum()) * popular[-1], side="right")
            again = (had == item[:, None]).any(axis=1)
        had[:, place] = item
    times = BEGINS + ((rng.random(customers)[:, None] * 300 + np.sort(rng.random(had.shape) * 60)) * DAY).astype(int)
    there = np.arange(10) < counts[:, None]
    who = np.broadcast_to(np.arange(customers)[:, None], had.shape)
    return pd.DataFrame({"customer": who[there], "item": had[there], "time": times[there]})
