"""How a run ended, as the document that `--json` prints."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import click

from endcap.cli.options import print_json
from endcap.runs import StepEnd
from endcap.spec.load import Loaded
from endcap.store import Store

Json = dict[str, Any]
_NOTED = "endcap.outcome"


@dataclass
class Outcome:
    """What is known of a run while it goes on, and at its end.

    state: `succeeded`, `submitted` where nobody follows it, or `ending`. done: the steps that have ended, in their
    order. not_run: why each other step did not run, by its name.
    """

    run: str
    state: str = "submitted"
    page: str = ""
    logs: str = ""
    seconds: float = 0.0
    done: list[StepEnd] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)

    def result(self, step: str) -> str | None:
        return next((done.result for done in self.done if done.step == step), None)

    def document(self, loaded: Loaded, pipeline: str, verdict: Mapping[str, Any] | None, store: Store | None) -> Json:
        """verdict: its facts, where a model was judged and this machine can read them. store: None where it cannot."""
        name, deployed = loaded.recommender.name, self.result("deploy") is not None
        return {
            **{key: getattr(self, key) for key in ("run", "state", "page", "logs", "seconds", "not_run")},
            "pipeline": pipeline,
            "recommender": name,
            "shop": loaded.shop.name,
            "steps": [asdict(done) for done in self.done],
            "verdict": None if verdict is None else _summarize_verdict(self.result("evaluate"), verdict),
            "version": self.result("register"),
            "deployment": _dump_deployment(name, store) if deployed and store is not None else None,
        }


def note_outcome(outcome: Outcome) -> Outcome:
    """Keep it for the end of the command that runs; gives it back."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_NOTED] = outcome
    return outcome


@contextlib.contextmanager
def print_outcome(
    as_json: bool, loaded: Loaded, pipeline: str, open_store: Callable[[], Store | None]
) -> Iterator[list[Mapping[str, Any] | None]]:
    """Within it the lines of a run go to standard error where `--json` was given; at the end the document follows.

    The block puts the verdict's facts into the list. open_store: called for the store, None where it cannot be read.
    """
    verdict: list[Mapping[str, Any] | None] = []
    if not as_json:
        yield verdict
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield verdict
    outcome: Outcome = click.get_current_context().meta[_NOTED]
    print_json(outcome.document(loaded, pipeline, verdict[0] if verdict else None, open_store()))


def _summarize_verdict(address: str | None, facts: Mapping[str, Any]) -> Json:
    from endcap.evaluation.verdict_text import list_missing_evidence, read_decision

    facts_kept = {key: facts.get(key) for key in ("metrics", "intervals", "conditions", "champion", "warnings")}
    return {"address": address, "outcome": read_decision(facts), "lacking": list_missing_evidence(facts), **facts_kept}


def _dump_deployment(name: str, store: Store) -> Json | None:
    from endcap.deploy import find_state

    state = find_state(name, store)
    return None if state is None else state.model_dump(mode="json")
