"""A verdict's facts in words: the gate's word, and how the champion was judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from endcap.evaluation.gate import GateDecision

Json = Mapping[str, Any]


def read_decision(verdict: Json) -> GateDecision:
    """The gate's word. A verdict of release 0.1.0 knows two."""
    word: GateDecision = verdict.get("outcome") or ("passed" if verdict["passed"] else "failed")
    return word


def describe_verdict(verdict: Json) -> str:
    """One line on a verdict: what is missing to decide, the conditions that failed, or those that passed."""
    word = read_decision(verdict)
    if word == "undecided":
        told = list_missing_evidence(verdict)
    else:
        told = [one["text"] for one in verdict["conditions"] if one["passed"] == (word == "passed")]
    return f"gate {word}: {'; '.join(told) or 'it has no conditions'}"


def list_missing_evidence(verdict: Json) -> list[str]:
    """What is missing of the evidence, a sentence each, with what to do."""
    return list(verdict.get("evidence", {}).get("lacking", []))


def explain_recipe(verdict: Json) -> str:
    """How the champion was judged where that was by its recipe; else empty."""
    champion = verdict.get("champion") or {}
    if champion.get("judged") != "recipe":
        return ""
    return (
        f"the champion, version {champion['version']}, is judged by its recipe, its settings as found fitted on what "
        f"the challenger was fitted on: {champion['reason']}"
    )


def explain_unjudged(champion: Json) -> str:
    """Of a champion that is not judged."""
    told = f"the champion, version {champion['version']}, is not judged, so that conditions against it fail"
    return f"{told}: {champion['reason']}"
