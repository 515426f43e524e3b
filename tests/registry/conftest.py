"""A recommender, and what it publishes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from endcap.spec import Recommender
from endcap.store import Store


@pytest.fixture
def recommender() -> Recommender:
    return Recommender.model_validate(
        {
            "apiVersion": "endcap/v2",
            "kind": "Recommender",
            "name": "demo",
            "shop": "demo",
            "model": {"name": "popularity"},
        }
    )


def publish(store: Store, kind: str, key: str, **facts: Any) -> str:
    with store.publish(kind, key) as draft:
        draft.facts.update(facts)
    return draft.address


def judged(store: Store, key: str = "v1", *, passed: bool = True, lacking: Sequence[str] = ()) -> str:
    """A verdict's address."""
    condition = {"text": "mrr@20 0.3 is at least 0.2", "passed": passed}
    metrics = {"challenger": {"mrr@20": 0.3}}
    word = "undecided" if lacking else "passed" if passed else "failed"
    evidence = {"sessions": 100, "half_width": 0.1, "lacking": list(lacking)}
    about = {"outcome": word, "evidence": evidence}
    facts = {
        **about,
        "passed": word == "passed",
        "conditions": [condition],
        "dataset": "file:///d",
        "snapshot": "file:///s",
    }
    return publish(store, "verdicts/demo", key, metrics=metrics, **facts)
