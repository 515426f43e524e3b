"""Event features: each kind is declared once, with its two evaluations.

A dataset computes them in Ibis over all events. The predictor computes them on arrays for the session of a request. A
property test holds the two equal. Every value is computed in double precision and then cut to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from endcap.errors import Problem, SpecError
from endcap.features.sessions import Ints, Sessions
from endcap.spec.event_features import EventFeature
from endcap.spec.settings import ViewSettings
from endcap.spec.side_features import list_feature_names
from endcap.spec.yaml_tree import format_key

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender

HOUR = 3_600_000
DAY = 24 * HOUR
FIRST_WEEKDAY = 3
"""1 January 1970 was a Thursday; Monday is 0."""
Values = NDArray[Any]


@dataclass(frozen=True)
class EventFeatureKind:
    """One kind of feature: what it needs, and its evaluation on tables.

    `table` evaluates an event table with `time` (epoch ms) and, if `needs_place`, `position` (from 0) and `previous`
    (time of the session's previous event, null for the first); if `needs_seen`, `seen` (how many of the session's
    earlier events are of its item); if `needs_type`, `type` (see `encode_types`).
    """

    table: Callable[[Any], Any]
    needs_place: bool = False
    needs_seen: bool = False
    needs_type: bool = False


def _compute_position(sessions: Sessions, feature: EventFeature) -> Values:
    positions = np.arange(len(sessions.items))
    positions -= np.repeat(sessions.offsets[:-1], sessions.lengths)
    return positions


def _compute_gap(sessions: Sessions, feature: EventFeature) -> Values:
    gaps = np.empty(len(sessions.items))
    np.subtract(sessions.times[1:], sessions.times[:-1], out=gaps[1:], casting="unsafe")
    gaps /= 1000
    gaps[sessions.offsets[:-1][sessions.lengths > 0]] = 0
    return gaps


def _compute_repeat(sessions: Sessions, feature: EventFeature) -> Values:
    # A stable order by session, then item: within each such group the first event is the first sight.
    order = np.lexsort((sessions.items, sessions.session_of_event))
    owner, items = sessions.session_of_event[order], sessions.items[order]
    repeats = np.zeros(len(items))
    repeats[order[1:]] = (owner[1:] == owner[:-1]) & (items[1:] == items[:-1])
    return repeats


def _compute_type(sessions: Sessions, feature: EventFeature) -> Values:
    if sessions.types is None:
        return np.zeros(len(sessions.items))
    return sessions.types.told_by(feature.types or [])


def _compute_remainder(values: Ints, divisor: int) -> Ints:
    """Compute `values % divisor`. NumPy's floor division by a constant is a fast loop, its remainder is none."""
    remainders = values // divisor
    remainders *= -divisor
    remainders += values
    return remainders


KINDS: Mapping[str, EventFeatureKind] = {
    "position": EventFeatureKind(lambda events: events.position, needs_place=True),
    "gap": EventFeatureKind(lambda events: ((events.time - events.previous) / 1000).fill_null(0.0), needs_place=True),
    "repeat": EventFeatureKind(lambda events: events.seen > 0, needs_seen=True),
    "hour": EventFeatureKind(lambda events: events.time // HOUR % 24),
    "weekday": EventFeatureKind(lambda events: (events.time // DAY + FIRST_WEEKDAY) % 7),
    "type": EventFeatureKind(lambda events: events.type, needs_type=True),
}
ARRAYS: Mapping[str, Callable[[Sessions, EventFeature], Values]] = {
    "position": _compute_position,
    "gap": _compute_gap,
    "repeat": _compute_repeat,
    "hour": lambda sessions, feature: _compute_remainder(sessions.times // HOUR, 24),
    "weekday": lambda sessions, feature: _compute_remainder(sessions.times // DAY + FIRST_WEEKDAY, 7),
    "type": _compute_type,
}
"""The same kinds on arrays: of sessions and the declaration, numbers [events]. Apart, so that no dataset is made anew
where only these change."""


def encode_types(events: Any, features: Sequence[EventFeature]) -> Any:
    """Replace an event table's `type`, a text, by the number that the features use. Without such a feature, drop
    `type`."""
    import ibis

    types = next((feature.types or [] for feature in features if KINDS[feature.kind].needs_type), None)
    if types is None:
        return events.drop("type")
    cases = [(events.type == name, ibis.literal(number, type="int16")) for number, name in enumerate(types, 1)]
    return events.mutate(type=ibis.cases(*cases, else_=ibis.literal(0, type="int16")))


def build_column(feature: EventFeature, events: Any) -> Any:
    """Build the feature as an Ibis float32 column of an event table (see `EventFeatureKind`)."""
    import ibis

    value = KINDS[feature.kind].table(events).cast("float64")
    if feature.buckets is not None:
        reached = [(value >= ibis.literal(edge, type="float64")).cast("int64") for edge in feature.buckets]
        value = sum(reached, start=ibis.literal(0, type="int64"))
    return value.cast("float32")


def compute_features(features: Sequence[EventFeature], sessions: Sessions) -> dict[str, NDArray[np.float32]]:
    """Compute the features of every event of the sessions, each float32 [events].

    Call it before sessions are cut to their last events: position, gap and repeat look back to the session's start.
    """
    values: dict[str, NDArray[np.float32]] = {}
    for feature in features:
        value = ARRAYS[feature.kind](sessions, feature)
        if feature.buckets is not None:
            value = np.searchsorted(feature.buckets, value, side="right")
        values[feature.name] = value.astype(np.float32)
    return values


def select_model_features(settings: ViewSettings | Recommender, declared: Sequence[EventFeature]) -> list[EventFeature]:
    """Select the declarations of the features that the recommender's model, or a member of its blend, names; each once.

    Raises
    ------
    SpecError
        With every mistake, in baselines too: a feature that the shop does not declare, or one without a limited number
        of values, which no model can embed.
    """
    known = {feature.name: feature for feature in declared}
    problems = []
    used: dict[str, EventFeature] = {}
    for key, name in list_feature_names(settings.models, "features").items():
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none, the shop declares no event features"
            hint = f"Declare {name!r} under features.events of the shop {settings.shop!r}, or leave it out"
            place = f"recommender {settings.name}"
            problems.append(Problem(place, format_key(key), repr(name), allowed, hint, code="unknown-name"))
        elif known[name].values is None:
            value, allowed = f"{name!r}, a {known[name].kind} without buckets", "features of limited values"
            hint = f"Give the feature {name!r} of the shop {settings.shop!r} `buckets`"
            place = f"recommender {settings.name}"
            problems.append(Problem(place, format_key(key), value, allowed, hint, code="not-allowed"))
        elif key[0] == "model":
            used[name] = known[name]
    if problems:
        raise SpecError(problems)
    return list(used.values())
