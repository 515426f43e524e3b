"""Where the store, the registry and other services are in each environment.

The file `environments.yaml` beside the specs has the places of each environment: the store, the registry, the online
store, Kubeflow Pipelines and the served models. `resolve` finds each place in this order: a command-line option or an
argument, an environment variable, the environment's entry in the file, the default.
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
"""The environment that counts if nobody chooses one and the file has it."""

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
"""The environment variables of each place. The first that is set counts."""
DEFAULTS: dict[str, str] = {"store": ".endcap/store", "registry": "", "online": ""}
"""The defaults of places. A place without a default is None, and its user decides."""


class KFPPlace(Strict):
    """How to reach Kubeflow Pipelines."""

    host: str | None = None
    """The address of its API. Left out: Endcap reaches it through the kubeconfig."""
    namespace: str | None = None
    """The namespace in which Kubeflow Pipelines is installed. Left out: kubeflow."""
    user_namespace: str | None = None
    """Your namespace, if Kubeflow Pipelines serves several users."""
    context: str | None = None
    """The kubeconfig's context; left out: the current one."""


class ServingPlace(Strict):
    """The cluster that serves the models."""

    namespace: str | None = None
    """The namespace of the InferenceServices. Left out: the spec's."""
    context: str | None = None
    """The kubeconfig's context; left out: the current one."""


class Environment(Strict):
    """The places of one environment."""

    store: str | None = None
    """The store of artifacts: a folder, relative to this file, or s3://bucket/prefix."""
    registry: str | None = None
    """MLflow's address. Left out: a database in the store, if the store is a folder."""
    online: str | None = None
    """The online store: redis://HOST:PORT, rediss://HOST:PORT or sqlite:///PATH. `none`: there is none. Left out: a
    file in the store, if the store is a folder."""
    kfp: KFPPlace = KFPPlace()
    """How to reach Kubeflow Pipelines."""
    serving: ServingPlace = ServingPlace()
    """The cluster that serves the models."""


class Environments(Strict):
    """The file of environments. It holds no secrets: write ${NAME} for a variable that has the secret."""

    layered: ClassVar[bool] = False

    apiVersion: ApiVersion
    """The version of the file's format."""
    kind: Literal["Environments"]
    """What the file describes."""
    environments: dict[Name, Environment]
    """The places of each environment, by its name. The environment `default` counts if nobody chooses one."""


@dataclass(frozen=True)
class Places:
    """Where the store, the registry and the other services are, and where each place comes from.

    Attributes
    ----------
    store
        A folder's path or ``s3://bucket/prefix``.
    registry
        MLflow's address; empty: the store's own.
    online
        The online store's address; empty: the store's own; ``none``: without.
    kfp_host, kfp_namespace, kfp_user_namespace, kfp_context
        How to reach Kubeflow Pipelines, and which namespaces count; None: the client's default.
    serving_namespace, serving_context
        Where models are served; None: the spec's namespace, the kubeconfig's current context.
    env
        The environment of the file that counts; None if none does.
    file
        The file of environments; None if there is none.
    origins
        Where each place comes from: ``given``, a variable's name, ``file:line``, or ``default``.
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

    def list_values(self) -> dict[str, tuple[str, str]]:
        """Return each place that has a value, without passwords, and where it comes from."""
        return {
            name: (redact(value), self.origins[name])
            for name in VARIABLES
            if (value := getattr(self, name)) not in (None, "")
        }

    def __repr__(self) -> str:
        # Variables may hold passwords, which must not get into a log or a notebook.
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
    """Find where the store, the registry and the other services are.

    Parameters
    ----------
    spec
        The recommender's file. The file of environments lies beside it; with None, in ``pipelines/specs``.
    env
        The environment. If only an overlay of the specs has this name, nothing comes from the file. If neither has it,
        ``endcap.spec.load`` refuses the name; with ``spec=None`` this function does.
    overrides
        Places that win over all others, such as ``{"store": "s3://shop/store"}``. None stands for a place that is not
        given.
    variables
        The environment variables; None: those of this process.

    Returns
    -------
    Places
        Each place, and where it comes from.

    Raises
    ------
    SpecError
        The file has mistakes; the error has all of them. Or `spec` is None and nothing has this environment.
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
    """Find the file of environments.

    Parameters
    ----------
    spec
        The recommender's file. None: the file is looked for in ``pipelines/specs``.
    variables
        The environment variables; None: those of this process. ENDCAP_ENVIRONMENTS wins over `spec`.

    Returns
    -------
    Path or None
        The file; None if there is none.

    Raises
    ------
    NotFoundError
        ENDCAP_ENVIRONMENTS names no file.
    """
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
    """List the names of a file's environments. Raises SpecError with every mistake in the file."""
    return [] if file is None else sorted(_list_entries(_validate(file)))


def _validate(file: Path) -> YamlNode:
    """Read a file and check it. Raises SpecError with every mistake in it."""
    document, problems = read_document(file)
    if document is not None:
        document, outdated = migrate_node(drop_nulls(document), "Environments")
        problems += outdated
        problems += _find_secrets(document, ())
        # No other problem may show a value that looks like a secret.
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
    hint = "Others read this file: keep the secret in a variable."
    return [Problem(node.place, format_key(key), kind, allowed, hint, code="not-allowed")]


def _list_entries(document: YamlNode | None) -> dict[str, YamlNode]:
    entries: dict[str, YamlNode] = {} if document is None else document.at(("environments",)).value
    return entries


def _expand_variables(entry: YamlNode, env: str, variables: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return an environment's values by place, each with its place in the file. Raises SpecError for unset
    variables."""
    problems: list[Problem] = []
    values = {}
    for name in VARIABLES:
        key = _build_key(name)
        node = entry.at(key)
        if isinstance(node.value, dict):
            continue  # `at` gave a node above the key: the value is left out
        text = expand(node, format_key(("environments", env, *key)), problems, variables)
        if name == "store" and "://" not in text:
            text = str(make_absolute((node.file or Path()).parent / Path(text).expanduser()))
        values[name] = (text, node.place)
    if problems:
        raise SpecError(problems)
    return values


def _build_key(name: str) -> tuple[str, ...]:
    """Return the key of a place in an environment's entry: `kfp_host` is at `kfp.host`."""
    group, _, field_name = name.partition("_")
    return (group, field_name) if field_name else (group,)


def _check_known(env: str, document: YamlNode | None) -> None:
    overlays = {name for folder in SPECS.glob("**/overlays") for name in list_yaml_names(folder)}
    allowed_names = sorted({*_list_entries(document), *overlays})
    if env not in allowed_names:
        allowed = join_words(allowed_names) or f"none: there is no {SPECS / ENVIRONMENTS}"
        place = f"--env {env}" if document is None or document.file is None else format_path(document.file)
        actual, hint = f"no environment {env!r}", suggest(env, allowed_names)
        raise SpecError([Problem(place, "environments", actual, allowed, hint, code="unknown-name")])
