"""Find a spec's file by its path or its name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from endcap.errors import NotFoundError
from endcap.safe_reading import is_file
from endcap.spec.base import suggest
from endcap.spec.for_each import MARK, split_path

SPECS = Path("pipelines/specs")
ENVIRONMENTS = "environments.yaml"
"""The file beside the specs that has the places of each environment."""
SHIPPED = Path(str(files("endcap_pipelines"))) / "specs"
"""The specs that come with an installed Endcap."""


def list_spec_names() -> list[str]:
    """List the names of all specs that need no path."""
    files = (file for folder in (SPECS, SHIPPED) for file in folder.glob("*.yaml"))
    return sorted({file.stem for file in files if file.name != ENVIRONMENTS})


def find_spec(value: str) -> Path:
    """Find the file of a recommender.

    Parameters
    ----------
    value
        Its path, or its name in pipelines/specs. A value of `for_each` may follow, as in ``home#shoes``.

    Returns
    -------
    Path
        The path of the file, with the value of `for_each` behind it.

    Raises
    ------
    NotFoundError
        There is no such file (`spec.not-found`).
    """
    name, each = split_path(value)
    for path in (Path(name), SPECS / f"{name}.yaml", SHIPPED / f"{name}.yaml"):
        if is_file(path):
            return Path(f"{path}{MARK}{each}") if each else path
    names = list_spec_names()
    near = suggest(value, [*names, *(str(file) for file in Path(value).parent.glob("*.yaml"))])
    raise NotFoundError(
        f"no spec {value!r}: give a recommender's YAML file, or a name in {SPECS} (there are: {', '.join(names)})"
        f"{f'. {near}' if near else ''}",
        code="spec.not-found",
        spec=value,
        known=names,
    )
