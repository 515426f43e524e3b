"""A verdict's facts in words: what was judged, the gate's decision, and how the champion was judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from endcap.evaluation.gate import GateDecision

Json = Mapping[str, Any]


def read_decision(verdict: Json) -> GateDecision:
    """Return the gate's decision. A verdict of release 0.1.0 knows `passed` and `failed` only."""
    word: GateDecision = verdict.get("outcome") or ("passed" if verdict["passed"] else "failed")
    return word


def describe_verdict(verdict: Json) -> str:
    """Describe a verdict in one line: what is missing to decide, the conditions that failed, or those that passed."""
    decision = read_decision(verdict)
    if decision == "undecided":
        findings = list_missing_evidence(verdict)
    else:
        findings = [
            condition["text"] for condition in verdict["conditions"] if condition["passed"] == (decision == "passed")
        ]
    return f"gate {decision}: {'; '.join(findings) or 'it has no conditions'}"


def list_missing_evidence(verdict: Json) -> list[str]:
    """List what is missing to decide, a sentence each, with what to do."""
    return list(verdict.get("evidence", {}).get("lacking", []))


def explain_recipe(verdict: Json) -> str:
    """Explain that the champion was judged by its recipe, if it was; else return an empty text."""
    champion = verdict.get("champion") or {}
    if champion.get("judged") != "recipe":
        return ""
    return (
        f"the champion, version {champion['version']}, is judged by its recipe, its settings as found fitted on what "
        f"the challenger was fitted on: {champion['reason']}"
    )


def explain_unjudged(champion: Json) -> str:
    """Explain why a champion is not judged."""
    start = f"the champion, version {champion['version']}, is not judged, so that conditions against it fail"
    return f"{start}: {champion['reason']}"


def describe_queries(facts: Mapping[str, Any]) -> str:
    """Describe in one line what was judged on. Facts of older verdicts say less."""
    predictions, targets = facts["predictions"], facts.get("targets", facts["predictions"])
    parts = [f"{predictions:,} predictions of {facts['sessions']:,} test sessions"]
    if targets != predictions:
        parts.append(f"{targets:,} items")
    if facts.get("equal_times", {}).get("equal"):
        order = facts["protocol"] if facts["protocol"] == "basket" else f"order: {facts['order']}"
        parts.append(
            f"{format_share(facts['equal_times']['share'])} of the test's transitions at equal times ({order})"
        )
    return ", ".join(parts)


def format_share(share: float) -> str:
    """Format a share as a percentage that is never 0 %."""
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"
