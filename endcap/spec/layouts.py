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
"""Layouts that have no such column."""


PRICED = ("rees46", "ga4", "segment", "snowplow")
"""Item layouts with a price; all have a category."""
