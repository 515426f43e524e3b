"""A recommender's aliases in MLflow: which version is champion, and which challenger."""

from __future__ import annotations

import time
from typing import Any

from endcap.errors import TransientError
from endcap.store.base import Hold

CHAMPION, CHALLENGER = "champion", "challenger"
ALIAS_WAITS = (0.1, 1.0)
"""Seconds before an alias is set once more that another version has, although it was set."""


def read_aliases(client: Any, name: str) -> dict[str, str]:
    """Read a recommender's aliases.

    Parameters
    ----------
    client
        MLflow's client.
    name
        The recommender.

    Returns
    -------
    dict
        The version's number by alias; empty if nothing was registered.
    """
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    return {alias: str(version) for alias, version in model.aliases.items()}


def set_alias(client: Any, name: str, alias: str, version: str, hold: Hold) -> None:
    """Give a version an alias, and check that it has it.

    MLflow has no conditional writes, and other software may write too.

    Parameters
    ----------
    client
        MLflow's client.
    name, alias, version
        The recommender, the alias and the version's number.
    hold
        The hold on decisions about the recommender.

    Raises
    ------
    TransientError
        Another version gets the alias again and again (`registry.alias-differs`), or another process decides by now.
    """
    for pause in (*ALIAS_WAITS, None):
        hold.check()
        client.set_registered_model_alias(name, alias, version)
        current = read_aliases(client, name).get(alias)
        if current == version:
            return
        if pause is not None:
            time.sleep(pause)
    raise TransientError(
        f"{name} version {version} was made the {alias}, but the registry has {current or 'none'} as such: something "
        "other than Endcap sets aliases there. See what it is, then run again",
        code="registry.alias-differs",
        recommender=name,
        alias=alias,
        version=version,
        found=current,
    )


def drop_alias(client: Any, name: str, alias: str, hold: Hold) -> None:
    """Remove an alias from the version that has it."""
    hold.check()
    client.delete_registered_model_alias(name, alias)
