"""Changes of the desired state that meet: each that is acknowledged is there, in some serial order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from endcap.deploy import CanaryTarget, Deployment, Target, deploy, find_state
from endcap.deploy.state import write_state
from endcap.registry import Registry, get_default_uri
from endcap.store import Store, open_store
from tests.deploy.race import RECOMMENDER, find_losses, race
from tests.store.servers import S3Place, Server, moto


def begun(store: Store) -> Deployment:
    """Version 1 serves, 2 is its canary."""
    first, second = (f"packages/raced/{version}" for version in "12")
    state = Deployment(
        recommender=RECOMMENDER.name,
        stable=Target(version="1", package=first),
        canary=CanaryTarget(version="2", package=second, share=0.2),
        salt="0",
        changed=datetime.now(UTC),
    )
    return write_state(state, store)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


@pytest.mark.slow
def test_none_of_400_changes_at_once_is_lost_in_a_bucket(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(server, tmp_path, monkeypatch)
    store = place.elsewhere()
    before = begun(store)
    answers = race(place.url, seed=1, count=400, environments=[place.environment() for _ in range(2)])
    assert len(answers) == 400
    assert find_losses(before, answers, find_state("raced", store)) == []
    assert place.left() == set()


@pytest.mark.slow
def test_none_of_400_changes_at_once_is_lost_in_a_folder(store: Store) -> None:
    before = begun(store)
    answers = race(store.root, seed=1, count=400)
    assert len(answers) == 400
    assert find_losses(before, answers, find_state("raced", open_store(store.root))) == []


@pytest.mark.slow
def test_deployments_among_the_changes_are_lost_no_more_than_these(shop_store: Store) -> None:
    registry = Registry(get_default_uri(shop_store), shop_store)
    for version in range(1, 6):
        registry.add_version(RECOMMENDER.name, f"packages/raced/{version}", "approved", "a race", {})
    before = deploy(RECOMMENDER, "2", shop_store)
    assert before is not None
    answers = race(shop_store.root, seed=2, count=40, registry=registry.uri)
    assert {answer.change.kind for answer in answers} >= {"deploy", "withdraw", "share", "shadow"}
    assert find_losses(before, answers, find_state("raced", shop_store)) == []
