"""The models of a comparison: from what is given, to a project a label."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from endcap.errors import SpecError, UserError
from endcap.project.base import ProjectBase
from endcap.spec.model_summary import describe_model, summarize_model

ProjectT = TypeVar("ProjectT", bound=ProjectBase)
SPEC_MODEL = "spec"
"""Stands for the spec's own model, as it is."""
MAX_LABEL_LETTERS = 60
"""Letters of a label."""


def make_contestants(project: ProjectT, models: Sequence[Any]) -> dict[str, ProjectT]:
    """Make a project for each model of a comparison.

    Parameters
    ----------
    models
        Names of models, sections of a spec, ``spec`` or projects; or mappings of such by labels. A model without a
        label is called by its name, or by its name and settings if another model has that name.

    Returns
    -------
    dict
        The projects by label.

    Raises
    ------
    UserError
        A label is malformed or occurs twice, or a project predicts something else or learns from other data than this
        one.
    SpecError
        A section is wrong.
    """
    projects: dict[str, ProjectT] = {}
    for label, model in _iterate_models(models):
        contestant = _make_project(
            project, model, label or str(model.get("name") if isinstance(model, Mapping) else model)
        )
        name = _choose_label(projects, _list_names(model, contestant)) if label is None else label
        _check_label(name, projects)
        projects[name] = contestant
    from endcap.evaluation.comparability import refuse_unequal

    for label, contestant in projects.items():
        refuse_unequal(label, contestant.recommender, contestant.shop, project.recommender, project.shop)
    return projects


def _iterate_models(models: Sequence[Any]) -> Iterator[tuple[str | None, Any]]:
    for model in models:
        if isinstance(model, Mapping) and "name" not in model:
            yield from model.items()
        else:
            yield None, model


def _make_project(project: ProjectT, model: Any, name: str) -> ProjectT:
    """The project that trains a model. told: what the model is called where it is wrong."""
    if not isinstance(model, str | Mapping):
        other: ProjectT = model
        return other
    if model == SPEC_MODEL:
        return project
    section = {"name": model} if isinstance(model, str) else dict(model)
    try:
        return _replace_model(project, section)
    except SpecError as error:
        raise SpecError([dataclasses.replace(problem, file=name) for problem in error.problems]) from error


def _replace_model(project: ProjectT, section: Mapping[str, Any]) -> ProjectT:
    """Without the spec's search, which is of its own model; by one process where workers cannot share this one."""
    try:
        return project.replace(model=section, search=None)
    except SpecError as error:
        if not all(problem.key.startswith("training") for problem in error.problems):
            raise
        return project.replace(model=section, search=None, training=None)


def _list_names(model: Any, project: ProjectT) -> list[str]:
    """What a model may be called, the shortest first."""
    if model == SPEC_MODEL:
        return [SPEC_MODEL]
    spec = project.recommender.model
    return [summarize_model(spec)["name"], describe_model(summarize_model(spec))]


def _choose_label(taken: Mapping[str, Any], names: Sequence[str]) -> str:
    label = next((name for name in names if name not in taken), None)
    number = 2
    while label is None:
        numbered = f"{names[-1]} ({number})"
        label, number = None if numbered in taken else numbered, number + 1
    return label


def _check_label(label: str, taken: Mapping[str, Any]) -> None:
    wrong = "is given twice" if label in taken else ""
    if not label.strip() or len(label) > MAX_LABEL_LETTERS or "/" in label or not label.isprintable():
        wrong = "cannot be a label"
    if wrong:
        raise UserError(
            f"{label!r} {wrong}; allowed: a different label for each model, of up to {MAX_LABEL_LETTERS} letters, "
            "without /",
            code="project.label-invalid",
            label=label,
            known=list(taken),
        )
