"""A simulated sparse shop: what a blend is worth on it, beside its members, seed by seed.

20,000 customers have 5 to 10 events each among 12,000 items. What comes next follows from the last item, from
the customer's tastes or from what is popular, and most of it no model can know. Each customer's last event is the
test, the one before it the validation, and all models are fitted on what is before both.
``SEEDS=2 SHARE=0.25 python -m tests.bench sparse`` measures two seeds on a quarter of the customers and items.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models import Fitting, Validation
from endcap.models.blend import Blend
from endcap.spec.model import BlendSpec

CUSTOMERS, ITEMS = 20_000, 12_000
_TASTES, _FOLLOWERS, _DEPARTMENT = 120, 4, 200
_BY_RULE, _BY_TASTE = 0.2, 0.6
_MINUTE = 60_000
MEMBERS: dict[str, dict[str, Any]] = {
    "gru4rec": {"loss": "cross-entropy", "learning_rate": 0.1, "dropout_embedding": 0.5, "max_epochs": 8},
    "sequential-rules": {},
    "vsknn": {},
    "ease": {"history": "session"},
}
HOW = "weights by validation; all fitted on what is before it; next_ndcg@20 among all items"


def simulate(seed: int, customers: int = CUSTOMERS, items: int = ITEMS) -> Sessions:
    """One session a customer, 5 to 10 events a minute apart; items numbered as they come, not yet by popularity."""
    rng = np.random.default_rng(seed)
    popularity = np.arange(1, items + 1) ** -0.7
    popularity /= popularity.sum()
    followers = rng.choice(items, (items, _FOLLOWERS), p=popularity)
    departments = [rng.choice(items, min(_DEPARTMENT, items), replace=False) for _ in range(_TASTES)]
    tastes = rng.integers(0, _TASTES, (customers, 2))
    lengths = rng.integers(5, 11, customers)
    sessions = []
    for customer in range(customers):
        own = np.concatenate([departments[taste] for taste in tastes[customer]])
        liked = own[np.minimum(rng.geometric(0.03, lengths[customer]) - 1, len(own) - 1)]
        drawn = rng.choice(items, lengths[customer], p=popularity)
        how = rng.random(lengths[customer])
        session: list[int] = []
        for place in range(lengths[customer]):
            if session and how[place] < _BY_RULE:
                session.append(int(rng.choice(followers[session[-1]])))
            elif how[place] < _BY_RULE + _BY_TASTE:
                session.append(int(liked[place]))
            else:
                session.append(int(drawn[place]))
        sessions.append(session)
    begins = rng.permutation(customers) * 10 * _MINUTE
    times = [
        [int(begin) + _MINUTE * place for place in range(len(one))] for begin, one in zip(begins, sessions, strict=True)
    ]
    return Sessions.of(sessions, times)


def parted(log: Sessions, items: int) -> tuple[Sessions, Validation, Validation]:
    """What is learnt from, the validation and the test, with items numbered anew, most popular first."""
    counts = np.bincount(_less(log, 1).items, minlength=items)
    place = np.empty(items, dtype=np.int32)
    place[np.argsort(-counts, kind="stable")] = np.arange(items)
    log = dataclasses.replace(log, items=place[log.items])
    until, train = _less(log, 1), _less(log, 2)
    return train, Validation(train, _last(until)), Validation(until, _last(log))


def _less(sessions: Sessions, events: int) -> Sessions:
    return sessions.beginnings(np.arange(len(sessions)), sessions.lengths - events)


def _last(sessions: Sessions) -> NDArray[np.int32]:
    return sessions.items[sessions.offsets[1:] - 1]


def measure() -> list[dict[str, Any]]:
    seeds, share = int(os.environ.get("SEEDS", "10")), float(os.environ.get("SHARE", "1"))
    results = []
    for seed in range(1, seeds + 1):
        items = int(share * ITEMS)
        train, validation, test = parted(simulate(seed, int(share * CUSTOMERS), items), items)
        blend = Blend(
            BlendSpec.model_validate({"members": {name: {"name": name, **MEMBERS[name]} for name in MEMBERS}})
        )
        everyone, begun = blend.members(), time.process_time()
        report = blend.fit(train, items, Fitting(seed=seed, validation=validation))
        own = report.found["validation"]
        best = max(own["members"], key=own["members"].get)
        told = test.measure(blend), test.measure(everyone[best])
        weights = ", ".join(f"{label} {weight:.2f}" for label, weight in blend.weights.items() if weight)
        print(
            f"seed {seed}: {weights} ({own['way']}); "
            f"validation {own['ndcg@20']:.4f}, {best} {own['members'][best]:.4f}; "
            f"test {told[0]:.4f}, {best} {told[1]:.4f}; {time.process_time() - begun:.0f} s of CPU",
            flush=True,
        )
        results += [
            _result(f"sparse {seed}: blend less {best}, validation", own["next_ndcg@20"] - own["members"][best], 0.0),
            _result(f"sparse {seed}: blend, test", told[0], None),
            _result(f"sparse {seed}: {best}, test", told[1], None),
        ]
    return results


def _result(name: str, value: float, floor: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "", "floor": floor, "lower_is_better": False, "how": HOW}
