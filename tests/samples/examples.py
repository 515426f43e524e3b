"""Samples for tests."""

from __future__ import annotations

from typing import Any

from endcap.online.base import RecentEvent
from endcap.ranking import PrecomputedList
from endcap.samples import SampledRequest

NOON = 1_769_860_800_000
"""2026-01-31 12:00 UTC."""


def make_sample(number: int = 0, **values: Any) -> SampledRequest:
    """Make a sample. values: its fields that differ from the usual ones."""
    usual: dict[str, Any] = {
        "ranking_id": f"token.{number}",
        "number": number,
        "recommender": "home",
        "version": "3",
        "variant": "stable",
        "time": NOON + number,
        "customer": "p-c",
        "session": None,
        "request": '{"k":2,"filter":{"brand":["a"]}}',
        "events": [RecentEvent("a", NOON - 10, "view"), RecentEvent("b", NOON - 5)],
        "events_source": "customer",
        "owned": ["x", "y"],
        "stored_list": PrecomputedList(["l", "m"], [0.25, None]),
        "is_known": True,
        "store_unavailable": False,
        "catalogue": "v1",
        "pseudonym_key": "k",
        "items": ["q", "r"],
        "scores": [0.1, None],
        "unknown": 1,
        "fallback": "few-scores",
        "degraded": False,
        "precomputed": False,
        "together": 1,
    }
    return SampledRequest(**usual | values)
