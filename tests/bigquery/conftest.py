"""An emulator that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bigquery.emulator import Emulator, run_emulator


@pytest.fixture(scope="session")
def started_emulator() -> Iterator[Emulator]:
    """A running emulator."""
    with run_emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(started_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The same, and the environment that names it."""
    for name, value in started_emulator.environment.items():
        monkeypatch.setenv(name, value)
    return started_emulator
