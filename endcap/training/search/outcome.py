"""The outcome of a search: the chosen model, and the facts of how it was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from endcap.errors import DivergedError
from endcap.models.fit import FittedModel
from endcap.spec.base import format_duration
from endcap.spec.model import BlendSpec, ModelSpec, SingleSpec
from endcap.spec.search import SearchSpec
from endcap.spec.space import Domain
from endcap.spec.tunable import change_parameters, dump_parameters
from endcap.training.search.budget import get_finish_time
from endcap.training.search.record import WRITTEN, ModelTrials, SearchRecord, Trial
from endcap.training.search.sampler import compute_importances


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    Attributes
    ----------
    spec
        The chosen model.
    fit_settings
        What its trial's fit chose (`FitReport.settings`), for fits on other parts; None: its fit has to choose that
        itself.
    facts
        For the trained model's `facts["search"]`.
    history
        History of that trial.
    resumed
        Whether the fit on the part before the validation has the trial's last checkpoint, and ends at once.
    rival
        If the spec is the model as the spec has it, which did not end in time: the best trial. It is taken if that
        model ends below it.
    """

    spec: ModelSpec
    fit_settings: Mapping[str, Any] | None
    facts: dict[str, Any] = field(default_factory=dict)
    history: list[Mapping[str, float]] = field(default_factory=list)
    resumed: bool = False
    rival: Trial | None = None


def choose_winner(part: ModelTrials, search: SearchSpec) -> Trial | None:
    """Return the trial whose settings are taken; None if no trial has a value.

    It is the best trial; but if the model as the spec has it had not enough time to finish, it is that model's trial.
    What it can reach is not known then, and the step fits it to its end, as without a search.
    """
    written = part.written
    if get_finish_time(search) and written is not None and written.state == "cut" and written.value is not None:
        return written
    return part.best


def settle(searched: SearchResult, fit: Callable[[ModelSpec], FittedModel]) -> SearchResult:
    """Return the better, on validation, of the model as the spec has it, fitted to its end, and the best trial.

    If the search did not end with the former, the result stays as it is.

    Parameters
    ----------
    searched
        The outcome of the search.
    fit
        Fits a model on the part before the validation, watched by it. What it raises is raised here, unless there is
        another trial.
    """
    rival = searched.rival
    if rival is None:
        return searched
    try:
        report = fit(searched.spec).report
    except DivergedError:
        if rival.number == WRITTEN:
            raise
        return _take_trial(searched, rival)
    value = max(row["validation"] for row in report.history)
    own = {"state": "complete", "value": value, "epochs": len(report.history)}
    facts = {**searched.facts, "as_written": own, "best": WRITTEN}
    if rival.number != WRITTEN and rival.value is not None and rival.value > value:
        return _take_trial(replace(searched, facts=facts), rival)
    return SearchResult(searched.spec, report.settings, facts, list(report.history), resumed=True)


def _take_trial(searched: SearchResult, trial: Trial) -> SearchResult:
    assert not isinstance(searched.spec, BlendSpec)
    spec = change_parameters(searched.spec, trial.parameters)
    return SearchResult(spec, trial.outcome(), {**searched.facts, "best": trial.number}, list(trial.history))


def build_result(
    model: ModelSpec,
    members: Mapping[str, SingleSpec],
    winners: Mapping[str, Trial],
    parts: Mapping[str, ModelTrials],
    left_out: Mapping[str, str],
    facts: dict[str, Any],
    *,
    resumed: bool,
) -> SearchResult:
    """Build the model with the settings of the winners.

    Parameters
    ----------
    model
        The recommender's model.
    members
        The models that were searched, by label.
    winners
        The trials whose settings are taken, by label.
    parts
        All trials, by label.
    left_out
        Members of a blend that cannot be used, with the reasons. If a single member is left, the model is that one.
    facts
        For the trained model's `facts["search"]`.
    resumed
        See `SearchResult.resumed`.
    """
    specs = {label: change_parameters(members[label], trial.parameters) for label, trial in winners.items()}
    if not isinstance(model, BlendSpec):
        return _build_single_result(specs[""], winners[""], parts[""], facts, resumed=resumed)
    used = {label: specs.get(label, member) for label, member in model.members.items() if label not in left_out}
    if len(used) > 1:
        document = model.model_dump(mode="json", by_alias=True)
        document["members"] = {label: spec.model_dump(mode="json", by_alias=True) for label, spec in used.items()}
        return SearchResult(type(model).model_validate(document), None, facts)
    ((label, spec),) = used.items()
    if label not in winners:
        return SearchResult(spec, None, facts)
    return _build_single_result(spec, winners[label], parts[label], facts, resumed=False)


def _build_single_result(
    spec: SingleSpec, trial: Trial, part: ModelTrials, facts: dict[str, Any], *, resumed: bool
) -> SearchResult:
    if trial.number == WRITTEN and trial.state == "cut":
        return SearchResult(spec, None, facts, rival=part.best)
    return SearchResult(spec, trial.outcome(), facts, list(trial.history), resumed)


def describe_member(
    member: SingleSpec, domains: Mapping[str, Domain], part: ModelTrials, winner: Trial | None
) -> dict[str, Any]:
    """Return the facts of one model's trials, and of the model as the spec has it.

    Parameters
    ----------
    member
        The model.
    domains
        Its parameters that were searched.
    part
        Its trials.
    winner
        The trial whose settings are taken; the fact `best` has its number.
    """
    written = part.written
    own = None if written is None else {"state": written.state, "value": written.value, "epochs": written.epochs}
    return {
        "trials": [trial.facts() for _, trial in sorted(part.trials.items())],
        "importances": compute_importances(domains, dump_parameters(member), part.of("complete", "pruned")),
        "best": None if winner is None else winner.number,
        "as_written": own,
        "finished": part.finishing,
        "failed": len(part.of("failed")),
        "cut": len(part.of("cut")),
    }


def describe_search(
    search: SearchSpec, record: SearchRecord, left_out: Mapping[str, str], key: str, run: str
) -> dict[str, Any]:
    """Return the facts of the whole search, beside its members.

    Parameters
    ----------
    search
        The search's settings.
    record
        Its record.
    left_out
        Members of a blend that cannot be used, with the reasons.
    key
        Key of what its trials depend on.
    run
        Id of its run in MLflow.
    """
    parts = record.parts.values()
    return {
        "failed": sum(len(part.of("failed")) for part in parts),
        "cut": sum(len(part.of("cut")) for part in parts),
        "inherited": sum(trial.inherited for part in parts for trial in part.trials.values()),
        "left_out": dict(left_out),
        "seconds": round(record.seconds, 3),
        "finish": {"limit": format_duration(get_finish_time(search)), "seconds": round(record.finish_seconds, 3)},
        "key": key,
        "run": run,
    }
