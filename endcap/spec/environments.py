"""Where things are in each environment: `environments.yaml`, and how it joins options and variables.

One file beside the specs says for each environment where the store, the registry, the online store, Kubeflow Pipelines
and the served models are. `resolve` puts these places together: what was given (a command-line option, an argument)
wins over the environment variable, that over the environment's entry in the file, that over the built-in default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, Literal

from endcap.errors import NotFoundError, Problem, SpecError
from endcap.redaction import find_secret, redact
from endcap.safe_reading import is_file
from endcap.secrets import read_variable
from endcap.spec.base import Name, Strict, suggest
from endcap.spec.layers import make_absolute
from endcap.spec.migration import migrate_node
from endcap.spec.problems import list_problems
from endcap.spec.spec_files import ENVIRONMENTS, SPECS
from endcap.spec.variables import expand, remove_variables
from endcap.spec.yaml_tree import (
    Key,
    YamlNode,
    drop_nulls,
    format_key,
    format_path,
    join_words,
    list_yaml_names,
    read_document,
)
from endcap.spec_renames import ApiVersion

FILE_VARIABLE = "ENDCAP_ENVIRONMENTS"
"""The environment variable that names another file."""
DEFAULT = "default"
"""The environment that counts where none is chosen, if the file has it."""

VARIABLES: dict[str, tuple[str, ...]] = {
    "store": ("ENDCAP_STORE",),
    "registry": ("ENDCAP_REGISTRY",),
    "online": ("ENDCAP_ONLINE",),
    "kfp_host": ("KFP_ENDPOINT", "KF_PIPELINES_ENDPOINT"),
    "kfp_namespace": ("KFP_NAMESPACE",),
    "kfp_user_namespace": ("KFP_USER_NAMESPACE",),
    "kfp_context": ("KFP_CONTEXT",),
    "serving_namespace": ("ENDCAP_NAMESPACE",),
    "serving_context": (),
}
"""The environment variables of each place; the first that is set counts."""
DEFAULTS: dict[str, str] = {"store": ".endcap/store", "registry": "", "online": ""}
"""What stands where nothing names a place; the others are None: whoever uses them decides."""


class KFPPlace(Strict):
    """Kubeflow Pipelines."""

    host: str | None = None
    """Address of its API; left out: reached by the kubeconfig."""
    namespace: str | None = None
    """Namespace that Kubeflow Pipelines is installed in; left out: kubeflow."""
    user_namespace: str | None = None
    """Your namespace, where Kubeflow Pipelines serves several users."""
    context: str | None = None
    """The kubeconfig's context; left out: the current one."""


class ServingPlace(Strict):
    """The cluster that serves the models."""

    namespace: str | None = None
    """Namespace of the InferenceServices."""
    context: str | None = None
    """The kubeconfig's context; left out: the current one."""


class Environment(Strict):
    """Where things are in one environment."""

    store: str | None = None
    """Artifacts: a folder, relative to this file, or s3://bucket/prefix."""
    registry: str | None = None
    """MLflow's address; left out: a data base in the store, where that is a folder."""
    online: str | None = None
    """The online store: redis://HOST:PORT, rediss://HOST:PORT or sqlite:///PATH; none: without."""
    kfp: KFPPlace = KFPPlace()
    """Kubeflow Pipelines."""
    serving: ServingPlace = ServingPlace()
    """The cluster that serves the models."""


class Environments(Strict):
    """Where things are in each environment. No secrets stand here: they come from variables."""

    layered: ClassVar[bool] = False

    apiVersion: ApiVersion
    kind: Literal["Environments"]
    environments: dict[Name, Environment]
    """Environments by name. The one called `default` counts where none is chosen."""


@dataclass(frozen=True)
class Places:
    """Where the store, the registry and the others are, and where each of these was said.

    Attributes
    ----------
    store
        A folder's path or ``s3://bucket/prefix``.
    registry
        MLflow's address; empty: the store's own.
    online
        The online store's address; empty: the store's own; ``none``: without.
    kfp_host, kfp_namespace, kfp_user_namespace, kfp_context
        How Kubeflow Pipelines is reached, and whose namespace there counts; None: the client's default.
    serving_namespace, serving_context
        Where models are served; None: the spec's namespace, the kubeconfig's current context.
    env
        The environment of the file that counts; None: none does.
    file
        The file of environments; None: there is none.
    origins
        Where each place was said: ``given``, a variable's name, ``file:line``, or ``default``.
    """

    store: str
    registry: str
    online: str
    kfp_host: str | None
    kfp_namespace: str | None
    kfp_user_namespace: str | None
    kfp_context: str | None
    serving_namespace: str | None
    serving_context: str | None
    env: str | None = None
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    def named(self) -> dict[str, tuple[str, str]]:
        """Each place that has a value, without passwords, and where it was said."""
        return {
            name: (redact(value), self.origins[name])
            for name in VARIABLES
            if (value := getattr(self, name)) not in (None, "")
        }

    def __repr__(self) -> str:
        # Variables may bring passwords in, which have no place in a log or a notebook.
        values = (
            f"{place.name}={redact(getattr(self, place.name) or '')!r}"
            for place in fields(self)
            if place.name in VARIABLES
        )
        return f"Places({', '.join([*values, f'env={self.env!r}', f'file={self.file!r}'])})"


def resolve(
    spec: str | Path | None,
    env: str | None = None,
    overrides: Mapping[str, str | None] | None = None,
    *,
    variables: Mapping[str, str] | None = None,
) -> Places:
    """Where things are.

    Parameters
    ----------
    spec
        The recommender's file, beside which the file of environments is looked for. None: in ``pipelines/specs``.
    env
        The environment. An overlay of specs may have the name too, or alone: then nothing comes from the file.
        ``endcap.spec.load`` refuses a name that neither has; with ``spec=None`` this function does.
    given
        Places by name, such as ``{"store": "s3://shop/store"}``. None stands for a place that is not given.
    variables
        Environment variables; None: those of this process.

    Raises
    ------
    SpecError
        Every mistake in the file; an unknown environment, where `spec` is None.
    NotFoundError
        ``ENDCAP_ENVIRONMENTS`` names no file (`spec.no-environments`).
    UserError
        A variable's value has a line break inside (`secrets.control-character`).
    """
    variables = os.environ if variables is None else variables
    overrides = overrides or {}
    file = find_file(spec, variables)
    document = None if file is None else _validate(file)
    if spec is None and env is not None:
        _check_known(env, document)
    chosen = DEFAULT if env is None else env
    entry = _list_entries(document).get(chosen)
    in_file = {} if entry is None else _expand_variables(entry, chosen, variables)
    values: dict[str, str | None] = {}
    origins: dict[str, str] = {}
    for name, names in VARIABLES.items():
        source = next((candidate for candidate in names if read_variable(candidate, variables)), None)
        if (value := overrides.get(name)) is not None:
            values[name], origins[name] = value, "given"
        elif source is not None:
            values[name], origins[name] = read_variable(source, variables), source
        elif name in in_file:
            values[name], origins[name] = in_file[name]
        else:
            values[name], origins[name] = DEFAULTS.get(name), "default"
    return Places(**values, env=chosen if entry is not None else None, file=file, origins=origins)  # type: ignore[arg-type]


def find_file(spec: str | Path | None, variables: Mapping[str, str] | None = None) -> Path | None:
    """The file of environments: ENDCAP_ENVIRONMENTS, else beside the spec; without a spec in ``pipelines/specs``."""
    variables = os.environ if variables is None else variables
    if named := variables.get(FILE_VARIABLE):
        file = make_absolute(Path(named).expanduser())
        if not is_file(file):
            raise NotFoundError(
                f"{FILE_VARIABLE} names {named}, which is no file; correct it or unset it",
                code="spec.no-environments",
                file=str(file),
            )
        return file
    file = make_absolute((SPECS if spec is None else Path(spec).parent) / ENVIRONMENTS)
    return file if is_file(file) else None


def list_environments(file: Path | None) -> list[str]:
    """Names of the environments of a file. Raises SpecError with every mistake in it."""
    return [] if file is None else sorted(_list_entries(_validate(file)))


def _validate(file: Path) -> YamlNode:
    """The document of a file in which nothing is wrong. Raises SpecError."""
    document, problems = read_document(file)
    if document is not None:
        document, outdated = migrate_node(drop_nulls(document), "Environments")
        problems += outdated
        problems += _find_secrets(document, ())
        # A value that looks like a secret is not shown in any other problem.
        secret = {problem.key for problem in problems}
        problems += [problem for problem in list_problems(document, Environments) if problem.key not in secret]
    if problems or document is None:
        raise SpecError(problems)
    return document


def _find_secrets(node: YamlNode, key: Key) -> list[Problem]:
    if isinstance(node.value, dict):
        return [problem for name, child in node.value.items() for problem in _find_secrets(child, (*key, name))]
    if not isinstance(node.value, str):
        return []
    text = remove_variables(node.value)
    kind = find_secret(text)
    if kind is None:
        return []
    allowed = "a value without secrets, or ${NAME} in its place"
    hint = "This file is checked in: keep the secret in a variable."
    return [Problem(node.place, format_key(key), kind, allowed, hint, code="not-allowed")]


def _list_entries(document: YamlNode | None) -> dict[str, YamlNode]:
    entries: dict[str, YamlNode] = {} if document is None else document.at(("environments",)).value
    return entries


def _expand_variables(entry: YamlNode, env: str, variables: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Values of an environment by place, and where each stands. Raises SpecError for variables that are not set."""
    problems: list[Problem] = []
    values = {}
    for name in VARIABLES:
        key = _build_key(name)
        node = entry.at(key)
        if isinstance(node.value, dict):
            continue  # the last node on the way there: the value itself is left out
        text = expand(node, format_key(("environments", env, *key)), problems, variables)
        if name == "store" and "://" not in text:
            text = str(make_absolute((node.file or Path()).parent / Path(text).expanduser()))
        values[name] = (text, node.place)
    if problems:
        raise SpecError(problems)
    return values


def _build_key(name: str) -> tuple[str, ...]:
    """Where a place stands in an environment's entry: `kfp_host` is `kfp.host`."""
    group, _, rest = name.partition("_")
    return (group, rest) if rest else (group,)


def _check_known(env: str, document: YamlNode | None) -> None:
    overlays = {name for folder in SPECS.glob("**/overlays") for name in list_yaml_names(folder)}
    allowed_names = sorted({*_list_entries(document), *overlays})
    if env not in allowed_names:
        allowed = join_words(allowed_names) or f"none: there is no {SPECS / ENVIRONMENTS}"
        place = f"--env {env}" if document is None or document.file is None else format_path(document.file)
        actual, hint = f"no environment {env!r}", suggest(env, allowed_names)
        raise SpecError([Problem(place, "environments", actual, allowed, hint, code="unknown-name")])
