"""The parameters that a search may change: the models' own domains, and those of the section `search`.

Each value of a domain must be allowed for its parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from endcap.errors import Problem, SpecError
from endcap.spec.base import UNKNOWN, Mistake, Strict, UnknownError, collect_mistakes, is_whole, select_known, suggest
from endcap.spec.custom import find_class, get_parameters_class, parse_parameters
from endcap.spec.model import BlendSpec, CustomSpec, ModelSpec, SingleSpec, StackedSpec
from endcap.spec.search import SearchSpec
from endcap.spec.space import Between, Domain

Values = dict[str, Any]


def list_members(model: ModelSpec) -> dict[str, SingleSpec]:
    """Return the models to search, by the label that keys of `search` begin with. A single model has an empty label."""
    if model is UNKNOWN:
        raise UnknownError
    return dict(model.members.items()) if isinstance(model, BlendSpec) else {"": model}


def list_domains(model: ModelSpec, search: SearchSpec) -> dict[str, dict[str, Domain]]:
    """Return the domains of the parameters to search, by label. A label without domains is left out.

    Raises SpecError if the section has a domain that a custom model does not allow. `check_search` checks the others.
    """
    searched = {}
    for label, member in list_members(model).items():
        if isinstance(member, CustomSpec):
            _check_custom(search, label, member)
        own_domains, fixed = _list_given_domains(label, search.space), _list_fixed(label, search)
        own = {name: domain for name, domain in _get_search_hints(member).space.items() if name not in own_domains}
        domains = {name: domain for name, domain in {**own, **own_domains}.items() if name not in fixed}
        if domains:
            searched[label] = domains
    return searched


def list_starts(label: str, member: SingleSpec, search: SearchSpec) -> list[Values]:
    """Return parameters that are known to be good, without fixed ones. Those outside the section's domains are left
    out."""
    own_domains, fixed = _list_given_domains(label, search.space), _list_fixed(label, search)
    good = [
        {name: value for name, value in start.items() if name not in fixed}
        for start in _get_search_hints(member).starts
    ]
    return [
        start
        for start in good
        if all(own_domains[name].holds(start[name]) for name in own_domains.keys() & start.keys())
    ]


def dump_parameters(member: SingleSpec) -> Values:
    """Return a model's parameters as JSON. For a custom model they are validated by its class."""
    if isinstance(member, CustomSpec):
        return parse_parameters(member.path, find_class(member.path), member.parameters).model_dump(mode="json")
    return {name: value for name, value in member.model_dump(mode="json").items() if name != "name"}


def change_parameters(member: SingleSpec, values: Mapping[str, Any]) -> SingleSpec:
    """Return the model with other values of parameters. Raises ValidationError or SpecError if a value is not
    allowed."""
    document = member.model_dump(mode="json", by_alias=True)
    if isinstance(member, CustomSpec):
        document["parameters"] = {**document["parameters"], **values}
        parse_parameters(member.path, find_class(member.path), document["parameters"])
    else:
        document |= values
    return type(member).model_validate(document)


def check_search(search: SearchSpec, model: ModelSpec) -> Iterator[Mistake]:
    """Find parameters in the section `search` that the model does not have, and values that it does not allow.

    Custom models are not imported here; `list_domains` checks them.
    """
    single = list_members(model)
    closed = {label: member for label, member in select_known(single).items() if not isinstance(member, CustomSpec)}
    names = [
        _join_label(label, name)
        for label, member in closed.items()
        for name in type(member).model_fields
        if name != "name"
    ]
    places: dict[tuple[str | int, ...], str] = {("space", key): key for key in select_known(search.space)}
    places |= {("fixed", number): key for number, key in select_known(search.fixed).items()}
    for at, key in places.items():
        if key not in names and key.rpartition(".")[0] not in single.keys() - closed.keys():
            allowed = f"a parameter of the model: {', '.join(sorted(names))}"
            yield Mistake(at, repr(key), allowed, _suggest_parameter(key, names), code="unknown-name")
    yield from collect_mistakes(
        _check_domain(member, name, ("space", _join_label(label, name)), domain)
        for label, member in _complete(closed).items()
        for name, domain in _list_given_domains(label, search.space).items()
        if _join_label(label, name) in names
    )


def _complete(members: Mapping[str, SingleSpec]) -> dict[str, SingleSpec]:
    """Replace members that are wrong in themselves: their class still tells the allowed values of each parameter."""
    whole: dict[str, SingleSpec] = {}
    for label, member in members.items():
        if is_whole(member):
            whole[label] = member
        elif not isinstance(member, CustomSpec | StackedSpec):
            whole[label] = type(member)()
    return whole


def _check_custom(search: SearchSpec, label: str, member: CustomSpec) -> None:
    names = [_join_label(label, name) for name in dump_parameters(member)]
    own_domains, fixed = _list_given_domains(label, search.space), _list_fixed(label, search)
    wrong = [
        Mistake(
            ("search",),
            repr(_join_label(label, name)),
            f"a parameter of {member.path}: {', '.join(names)}",
            code="unknown-name",
        )
        for name in [*own_domains, *fixed]
        if _join_label(label, name) not in names
    ]
    for name, domain in own_domains.items():
        if _join_label(label, name) in names:
            wrong += _check_domain(member, name, ("search", "space", _join_label(label, name)), domain)
    if wrong:
        raise SpecError(
            [
                Problem("spec", ".".join(map(str, mistake.at)), mistake.actual, mistake.allowed, code=mistake.code)
                for mistake in wrong
            ]
        )


def _get_search_hints(member: SingleSpec) -> Any:
    """Return the object that has the model's `space` and `starts`. A custom model may have none."""
    if not isinstance(member, CustomSpec):
        return type(member)
    return _SearchHints(get_parameters_class(member.path, find_class(member.path)))


class _SearchHints:
    def __init__(self, parameters: type[Strict]) -> None:
        self.space: Mapping[str, Domain] = getattr(parameters, "space", {})
        self.starts: list[Values] = getattr(parameters, "starts", [])


def _list_given_domains(label: str, space: Mapping[str, Domain]) -> dict[str, Domain]:
    """Return the section's domains for the parameters of a label."""
    return {name: domain for key, domain in select_known(space).items() for of, name in [_split(key)] if of == label}


def _list_fixed(label: str, search: SearchSpec) -> list[str]:
    """Return the parameters of a label that the section fixes."""
    return [name for of, name in map(_split, search.fixed) if of == label]


def _split(key: str) -> tuple[str, str]:
    label, _, name = key.rpartition(".")
    return label, name


def _join_label(label: str, name: str) -> str:
    return f"{label}.{name}" if label else name


def _suggest_parameter(key: str, names: list[str]) -> str:
    of_all = [candidate for candidate in names if _split(candidate)[1] == _split(key)[1]]
    return suggest(key, names) or (f"Did you mean {of_all[0]!r}?" if of_all else "")


def _check_domain(member: SingleSpec, name: str, at: tuple[str | int, ...], domain: Domain) -> Iterator[Mistake]:
    ends: list[tuple[str | int, ...]] = [("low",), ("high",)]
    places = ends if isinstance(domain, Between) else [("values", number) for number in range(len(domain.values))]
    for number, value in select_known(domain.corners()).items():
        place = places[number]
        try:
            change_parameters(member, {name: value})
        except (ValidationError, SpecError) as error:
            yield Mistake(
                (*at, *place), repr(value), f"what {name} may be: {_format_reason(error)}", code="not-allowed"
            )
    if isinstance(domain, Between) and not domain.integer:
        try:
            change_parameters(member, {name: domain.inner()})
        except (ValidationError, SpecError) as error:
            actual = f"{domain.low:g} to {domain.high:g}, which holds {domain.inner():g}"
            hint = f"If {name} takes whole numbers, add integer: true."
            yield Mistake(at, actual, f"what {name} may be: {_format_reason(error)}", hint, code="not-allowed")


def _format_reason(error: ValidationError | SpecError) -> str:
    if isinstance(error, SpecError):
        return error.problems[0].allowed
    return error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
