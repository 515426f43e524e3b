"""One store for all tests of projects: a simulated shop, and what its steps made."""

from __future__ import annotations

from pathlib import Path

import pytest

import endcap


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store's folder."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture
def project(folder: Path) -> endcap.Project:
    """The trial's project; what its steps make is made once for all tests."""
    return endcap.open("trial", store=folder, sets=["search=null"], progress=lambda line: None)


@pytest.fixture
def judged(project: endcap.Project) -> endcap.Project:
    """The same with a verdict."""
    project.ingest()
    project.features()
    project.train()
    project.evaluate()
    return project
