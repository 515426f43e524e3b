"""Messages about an A/B test, from the entries of its log."""

from __future__ import annotations

import math
from collections.abc import Mapping

from endcap.errors import EndcapError
from endcap.experiments.ab_log import AbLogEntry
from endcap.experiments.ab_state import AbState
from endcap.experiments.decision_parts import format_share
from endcap.experiments.splits import TOTAL_WEIGHT
from endcap.messages import Message
from endcap.messages.message import Kind, Severity
from endcap.store import Store

_SEVERITIES: Mapping[Kind, Severity] = {"ab.dropped": "warning", "ab.attention": "warning"}
_TITLES: Mapping[Kind, str] = {
    "ab.begun": "an A/B test begins",
    "ab.moved": "shoppers move",
    "ab.dropped": "a version leaves the A/B test",
    "ab.ended": "the A/B test is over",
    "ab.attention": "a person should look at the A/B test",
}


def describe_ab_entry(entry: AbLogEntry, store: Store) -> Message | None:
    """Return the message of a log's entry; None where nothing changed that anyone must know.

    Parameters
    ----------
    entry
        The entry.
    store
        Holds the packages, which name their data.
    """
    kind = _find_kind(entry)
    if kind is None:
        return None
    state = entry.after
    leaving = _list_leaving(entry)
    version = state.winner or ", ".join(leaving) or state.stable_version
    return Message(
        id=f"ab/{state.recommender}/{entry.number}/{entry.time:%Y%m%dT%H%M%S}",
        kind=kind,
        time=entry.time,
        severity=_SEVERITIES.get(kind, "info"),
        title=f"{state.recommender}: {_TITLES[kind]}",
        text=f"{describe_step(entry)} {describe_shares(state)}",
        recommender=state.recommender,
        version=version,
        dataset=_find_dataset(state, version, store),
        metrics=_list_metrics(entry),
        action=_describe_action(state, kind),
        facts={
            "phase": state.phase,
            "reason": state.reason,
            "entry": entry.number,
            "epoch": state.epoch,
            "shares": list_shares(state),
            "stable": state.stable_version,
            "leaving": leaving,
            "winner": state.winner,
        },
    )


def describe_step(entry: AbLogEntry) -> str:
    """Return in a sentence what an entry did, and why."""
    if entry.decision is not None:
        return entry.decision.sentence
    command, state = entry.command, entry.after
    author, why = (entry.by, entry.why) if command is None else (command.by, command.why)
    by = f" by {author}" if author else ""
    because = f": {why}" if why else ""
    if command is None:
        versions = ", ".join(challenger.version for challenger in state.challengers)
        return f"The test begins{by}, with versions {versions} beside {state.stable_version}{because}."
    version = f" {command.version}" if command.version else ""
    return f"{command.action}{version}{by}{because}."


def list_shares(state: AbState) -> dict[str, float]:
    """Return the share of each version that shoppers meet, 0 to 1, by the version."""
    if state.is_over:
        return {state.winner or state.stable_version: 1.0}
    return {state.name_version(arm): weight / TOTAL_WEIGHT for arm, weight in state.weights.items()}


def describe_shares(state: AbState) -> str:
    """Return in a sentence who meets which version."""
    if state.is_over:
        return f"Version {state.winner or state.stable_version} serves everyone."
    shares = ", ".join(f"version {version} {format_share(share)}" for version, share in list_shares(state).items())
    return f"Shares: {shares}."


def _find_kind(entry: AbLogEntry) -> Kind | None:
    if entry.kind == "begin":
        return "ab.begun"
    if entry.after.is_over:
        return "ab.ended" if entry.before is not None and not entry.before.is_over else None
    if _list_leaving(entry):
        return "ab.dropped"
    if entry.before is not None and entry.after.layouts != entry.before.layouts:
        return "ab.moved"
    return "ab.attention" if entry.decision is not None and entry.decision.alert else None


def _list_leaving(entry: AbLogEntry) -> list[str]:
    before = {each.arm: each.left for each in entry.before.challengers} if entry.before else {}
    if entry.kind == "begin":
        return []
    return [each.version for each in entry.after.challengers if each.left and not before.get(each.arm)]


def _find_dataset(state: AbState, version: str, store: Store) -> str:
    challenger = state.find_challenger(version)
    package = state.stable_package if challenger is None else challenger.package
    try:
        return str(store.manifest(package)["facts"].get("dataset", ""))
    except EndcapError:
        return ""


def _list_metrics(entry: AbLogEntry) -> dict[str, float]:
    """Return each challenger's effects with their bounds, as far as they are known."""
    if entry.evidence is None:
        return {}
    numbers = {
        name: value
        for challenger in entry.evidence.challengers
        for effect in challenger.effects
        for name, value in (
            (f"{effect.metric} of {challenger.version}", effect.effect),
            (f"{effect.metric} of {challenger.version} at worst", effect.lower),
            (f"{effect.metric} of {challenger.version} at best", effect.upper),
        )
    }
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _describe_action(state: AbState, kind: Kind) -> str:
    if kind == "ab.attention":
        return f"Look at it: endcap ab status {state.recommender}"
    if kind in ("ab.dropped", "ab.ended"):
        return f"Nothing for shoppers. Read why: endcap ab history {state.recommender}"
    return ""
