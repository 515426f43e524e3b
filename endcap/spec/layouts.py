"""The published layouts that sources may have, and what each of them holds."""

from __future__ import annotations

from typing import Literal

Layout = Literal[
    "columns",
    "yoochoose-clicks",
    "yoochoose-buys",
    "diginetica-views",
    "diginetica-purchases",
    "rees46",
    "retailrocket",
    "movielens-recbole",
    "movielens-100k",
    "movielens-1m",
    "movielens-20m",
    "otto",
    "ga4",
    "segment",
    "snowplow",
]


ItemLayout = Literal[
    "columns",
    "rees46",
    "retailrocket",
    "movielens-recbole",
    "movielens-100k",
    "movielens-1m",
    "movielens-20m",
    "ga4",
    "segment",
    "snowplow",
]


WITHOUT = {"session": ("retailrocket", "segment"), "customer": ("yoochoose-clicks", "yoochoose-buys", "otto")}
"""The layouts that have no session column, and those that have no customer column."""


PRICED = ("rees46", "ga4", "segment", "snowplow")
"""The item layouts that have a price. Every item layout has a category."""
