"""The document about a run that `--json` prints."""

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
    """What a command knows of its run.

    Attributes
    ----------
    run
        The run's name, or its id on Kubeflow Pipelines.
    state
        ``succeeded``; ``submitted`` if the command does not follow the run; or ``ending``.
    page, logs
        The run's page on Kubeflow Pipelines, and the folder of its logs; empty if there is none.
    seconds
        How long the run took.
    done
        The events of the finished steps, in their order.
    not_run
        Why each other step did not run, by its name.
    """

    run: str
    state: str = "submitted"
    page: str = ""
    logs: str = ""
    seconds: float = 0.0
    done: list[StepEnd] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)

    def find_result(self, step: str) -> str | None:
        """Return the result of a step; None if it did not finish."""
        return next((done.result for done in self.done if done.step == step), None)

    def build_document(
        self, loaded: Loaded, pipeline: str, verdict: Mapping[str, Any] | None, store: Store | None
    ) -> Json:
        """Build the document.

        Parameters
        ----------
        loaded
            The recommender and its shop.
        pipeline
            The pipeline's name.
        verdict
            The verdict's facts; None if no model was judged, or this machine cannot read them.
        store
            The store; None if this machine cannot read it.
        """
        name, deployed = loaded.recommender.name, self.find_result("deploy") is not None
        return {
            **{key: getattr(self, key) for key in ("run", "state", "page", "logs", "seconds", "not_run")},
            "pipeline": pipeline,
            "recommender": name,
            "shop": loaded.shop.name,
            "steps": [asdict(done) for done in self.done],
            "verdict": None if verdict is None else _summarize_verdict(self.find_result("evaluate"), verdict),
            "version": self.find_result("register"),
            "deployment": _dump_deployment(name, store) if deployed and store is not None else None,
        }


def note_outcome(outcome: Outcome) -> Outcome:
    """Keep the outcome for the end of the command, and return it."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_NOTED] = outcome
    return outcome


@contextlib.contextmanager
def print_outcome(
    as_json: bool, loaded: Loaded, pipeline: str, open_store: Callable[[], Store | None]
) -> Iterator[list[Mapping[str, Any] | None]]:
    """Print the document of a run after a block, if `--json` was given. Within the block, lines go to standard error.

    Parameters
    ----------
    as_json
        Whether `--json` was given.
    loaded
        The recommender and its shop.
    pipeline
        The pipeline's name.
    open_store
        Opens the store; returns None if this machine cannot read it.

    Yields
    ------
    list
        A list into which the block puts the verdict's facts.
    """
    verdict: list[Mapping[str, Any] | None] = []
    if not as_json:
        yield verdict
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield verdict
    outcome: Outcome = click.get_current_context().meta[_NOTED]
    print_json(outcome.build_document(loaded, pipeline, verdict[0] if verdict else None, open_store()))


def _summarize_verdict(address: str | None, facts: Mapping[str, Any]) -> Json:
    from endcap.evaluation.verdict_text import list_missing_evidence, read_decision

    facts_kept = {key: facts.get(key) for key in ("metrics", "intervals", "conditions", "champion", "warnings")}
    return {"address": address, "outcome": read_decision(facts), "lacking": list_missing_evidence(facts), **facts_kept}


def _dump_deployment(name: str, store: Store) -> Json | None:
    from endcap.deploy import find_state

    state = find_state(name, store)
    return None if state is None else state.model_dump(mode="json")
