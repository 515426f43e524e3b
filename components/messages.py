"""What a run tells people and machines: the gate's verdict, and that the run failed.

A message never fails a step, and holds up its end by a few seconds at most (`endcap.messages.messenger.CLOSE_WITHIN`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from endcap.errors import EndcapError
from endcap.messages import Message, Messenger
from endcap.messages.message import Kind, Severity
from endcap.store import Store, get_content_key, open_store
from endcap_components.reuse import current_check

_CHALLENGER = "challenger"
_GATES: Mapping[str, tuple[Kind, Severity, str]] = {
    "passed": ("gate.passed", "info", "the gate is passed"),
    "failed": ("gate.failed", "warning", "the gate is not passed"),
    "undecided": ("gate.undecided", "warning", "the gate is undecided"),
}


def tell_verdict(store_url: str, address: str, recommender: str, run: str) -> None:
    """Send the gate's verdict, once for each verdict.

    Parameters
    ----------
    store_url
        The store's address.
    address
        The verdict's.
    recommender, run
        Whose it is, and the run that asked for it.
    """
    # A check for reuse writes nothing; whoever made the verdict has told it.
    if current_check() is None:
        _send(store_url, lambda store: describe_verdict(address, store.manifest(address)["facts"], recommender, run))


def tell_failed_run(store_url: str, document: Mapping[str, Any]) -> None:
    """Send that a run failed. document: the run's. A run in another state is no news."""
    if document.get("state") == "failed":
        _send(store_url, lambda store: describe_failed_run(document))


def describe_verdict(address: str, facts: Mapping[str, Any], recommender: str, run: str) -> Message:
    """Return the message of a verdict, with the metrics of the model that was judged. facts: of the verdict."""
    kind, severity, title = _GATES[facts["outcome"]]
    conditions = [
        f"{'passed' if condition['passed'] else 'failed'}: {condition['text']}" for condition in facts["conditions"]
    ]
    lines = [*(f"undecided: {reason}" for reason in facts["evidence"]["lacking"]), *conditions]
    actions = {
        "passed": "",
        "failed": f"Read the report: endcap runs show {run}. The champion stays",
        "undecided": "Bring a longer log, or enlarge split.test. The champion stays",
    }
    return Message(
        id=f"verdict/{recommender}/{get_content_key(address)}",
        kind=kind,
        time=datetime.now(UTC),
        severity=severity,
        title=f"{recommender}: {title}",
        text="\n".join(lines) or "The gate has no conditions.",
        recommender=recommender,
        run=run,
        dataset=str(facts.get("dataset", "")),
        metrics={name: float(value) for name, value in facts["metrics"].get(_CHALLENGER, {}).items()},
        action=actions[facts["outcome"]],
        facts={"outcome": facts["outcome"], "verdict": address},
    )


def describe_failed_run(document: Mapping[str, Any]) -> Message:
    """Return the message of a failed run. document: the run's, as `endcap.runs.end_run` returns it."""
    run, step = str(document["run"]), str(document.get("step") or "")
    where = f"step {step}" if step else "the run"
    return Message(
        id=f"run/{run}/failed",
        kind="run.failed",
        time=datetime.now(UTC),
        severity="warning",
        title=f"{document.get('recommender') or run}: a run failed in {where}",
        text=str(document.get("cause", "")),
        recommender=str(document.get("recommender", "")),
        run=run,
        action=f"Correct the cause and run it again; what is finished is kept. Details: endcap runs show {run}",
        facts={
            "pipeline": str(document.get("pipeline", "")),
            "step": step,
            "code": str((document.get("error") or {}).get("code", "")),
        },
    )


def _send(store_url: str, describe: Callable[[Store], Message]) -> None:
    try:
        store: Store = open_store(store_url)
        messenger = Messenger(store)
        messenger.send(describe(store))
        if problem := messenger.close():
            print(f"a message is not delivered yet: {problem}", flush=True)
    except (EndcapError, OSError, KeyError) as error:
        print(f"a message cannot be sent: {error}", flush=True)
