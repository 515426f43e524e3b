"""Expand variables in the values of specs: `${NAME}` and `${NAME:-default}`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from endcap.errors import Problem
from endcap.secrets import read_variable
from endcap.spec.yaml_tree import YamlNode

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def expand(node: YamlNode, key: str, problems: list[Problem], variables: Mapping[str, str] | None = None) -> str:
    """Replace the variables in a node's text by their values.

    Parameters
    ----------
    node
        The node.
    key
        The node's key, for messages.
    problems
        A list to which a variable is added that is not set and has no default.
    variables
        The environment variables; None: those of this process.

    Raises
    ------
    UserError
        `endcap.secrets.read_variable` refuses a value.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        text = read_variable(name, variables) or default
        if text is None:
            allowed = f"a variable that is set; or a default: ${{{name}:-/some/folder}}"
            problems.append(Problem(node.place, key, f"${{{name}}}, which is not set", allowed, code="unset-variable"))
        return text or ""

    return _VARIABLE.sub(value, node.value)


def remove_variables(text: str) -> str:
    """Remove the variables from a text; their defaults stay."""
    return _VARIABLE.sub(lambda match: match[2] or "", text)
