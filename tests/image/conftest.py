"""Images are built where that is asked for by name: `make test-image`. It takes minutes and 7 GB below `build/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.engine import Engine, started


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    here = Path(__file__).parent
    named = any(Path(argument.split("::")[0]).resolve().is_relative_to(here) for argument in config.args)
    return True if collection_path.name == "test_built.py" and not named else None


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with started() as engine:
        yield engine
