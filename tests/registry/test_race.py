"""Registrations and decisions that meet, on MLflow's own server with a data base behind it and a store in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.race import Act, Racers, race, racers, unexplained
from tests.registry.server import running_mlflow
from tests.store.servers import S3Place, moto

PROCESSES = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Place]:
    with moto() as server, pytest.MonkeyPatch.context() as patch:
        yield S3Place(server, tmp_path_factory.mktemp("machines"), patch)


@pytest.fixture(scope="module")
def started(place: S3Place, tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Iterator[Racers]:
    place.elsewhere()
    with running_mlflow(tmp_path_factory.mktemp("mlflow"), empty_registry) as address:
        environments = [place.environment() for _ in range(PROCESSES)]
        with racers(place.url, address, environments) as processes:
            yield processes


def test_one_package_from_three_processes_is_one_version(place: S3Place, started: Racers) -> None:
    for name in ("one", "two"):
        ended = started.act([Act("register", name, f"{place.url}/packages/{name}/1")] * PROCESSES)
        assert (ended.codes, ended.repeated) == ([""] * PROCESSES, False)
        assert ended.after == {f"{place.url}/packages/{name}/1": ("approved", ("champion",), True)}


def test_of_three_first_packages_one_is_champion_and_none_is_left_out(place: S3Place, started: Racers) -> None:
    for name in ("three", "four"):
        packages = [f"{place.url}/packages/{name}/{number}" for number in range(PROCESSES)]
        ended = started.act([Act("register", name, package) for package in packages])
        assert unexplained([ended]) == []
        assert sorted(aliases for _, aliases, _ in ended.after.values()) == [(), ("challenger",), ("champion",)]


@pytest.mark.slow
def test_decisions_that_meet_end_as_one_after_the_other_would(place: S3Place, started: Racers) -> None:
    rounds = race(started, PROCESSES, place.url, seed=16, count=8)
    assert unexplained(rounds) == []
