"""What is public says what it does, with an example that runs."""

from __future__ import annotations

import copy
import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import endcap
from endcap import errors, progress
from endcap.client import async_client, client
from endcap.project import base, data_methods, factory, model_methods, read_methods, release_methods
from endcap.project import project as steps

METHODS = [base, data_methods, model_methods, release_methods, read_methods, steps]
MODULES: list[ModuleType] = [async_client, client, errors, progress, factory, *METHODS]
EXAMPLES = [test for module in MODULES for test in doctest.DocTestFinder().find(module) if test.examples]
SERVED = {"endcap.client.client.Client", "endcap.client.async_client.AsyncClient"}


@pytest.fixture(scope="module")
def made(folder: Path) -> endcap.Project:
    """The trial's project after all steps up to the registry."""
    project = endcap.open("trial", store=folder, sets=["search=null"], progress=lambda line: None)
    for step in (project.ingest, project.features, project.train, project.evaluate, project.refit, project.register):
        step()
    return project


@pytest.fixture(scope="module")
def served(made: endcap.Project) -> Iterator[str]:
    """The address of a service of the trial's first version."""
    made.deploy()
    with made.serve() as address:
        yield address


def test_each_public_name_has_an_example() -> None:
    public = {name: getattr(endcap, name) for name in endcap.__all__ if name != "__version__"}
    methods = dict(inspect.getmembers(endcap.Project, inspect.isfunction))
    public |= {f"Project.{name}": member for name, member in methods.items() if not name.startswith("_")}
    without = [name for name, member in public.items() if ">>> " not in (inspect.getdoc(member) or "")]
    assert without == []


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda test: test.name.removeprefix("endcap."))
def test_an_example_runs(
    example: doctest.DocTest, folder: Path, made: endcap.Project, request: pytest.FixtureRequest
) -> None:
    globs = {"endcap": endcap, "folder": folder, "project": copy.deepcopy(made)}
    if example.name in SERVED:
        globs["address"] = request.getfixturevalue("served")
    example.globs = {**example.globs, **globs}
    lines: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=lines.append)
    assert not result.failed, "".join(lines)


@pytest.mark.slow
def test_the_readmes_python_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0]
    monkeypatch.setenv("ENDCAP_STORE", str(folder))
    # The trial's search takes its time, and is an example of its own.
    names: dict[str, endcap.Project] = {}
    exec(code.replace('open("trial")', 'open("trial", sets=["search=null"])'), names)
    assert len(names["project"].rank(items=[], k=5).ids) == 5
