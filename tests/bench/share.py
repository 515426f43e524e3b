"""The share of 100,000 shoppers that meet the canary, through the real Envoy, against its weight."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tests.serving.shoppers import meet_arms

SHOPPERS = 100_000
POINTS = 0.3
"""Of a hundred: how far the share may be from the weight."""


def measure() -> list[dict[str, Any]]:
    shares = (0.1, 0.3)
    with tempfile.TemporaryDirectory() as folder:
        arms = meet_arms(Path(folder), [{"share": share} for share in shares], SHOPPERS)
    met = [{shopper for shopper, arm in enumerate(answers) if arm == "canary"} for answers in arms]
    results: list[dict[str, Any]] = [
        {
            "name": f"gateway: off a weight of {share:.0%}, {SHOPPERS:,} shoppers",
            "value": abs(100 * len(canary) / SHOPPERS - 100 * share),
            "unit": "points",
            "floor": POINTS,
            "lower_is_better": True,
            "how": "a request for each shopper through Envoy; hashes are the same in every run",
        }
        for share, canary in zip(shares, met, strict=True)
    ]
    kept = {
        "name": "gateway: shoppers of 10% who are still in at 30%",
        "value": 100 * len(met[0] & met[1]) / len(met[0]),
        "unit": "percent",
        "floor": 100.0,
        "lower_is_better": False,
        "how": "the same shoppers asked at both shares",
    }
    return [*results, kept]
