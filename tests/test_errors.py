"""Errors cross processes whole: by pickle, and as documents."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import pytest

from endcap.cluster import ConflictError
from endcap.errors import ClusterError, EndcapError, NotFoundError, Problem, SpecError, describe_error, rebuild_error

MISSING = NotFoundError("nothing is there", code="store.not-found", address="s3://shop/a")
HELD = ConflictError("others hold fields", code="cluster.conflict", held={"kubectl": ["spec"]})
INVALID = SpecError([Problem("home.yaml:3", "sede", "an unknown key", "seed", "", code="unknown-key")])


def by_pickle(error: EndcapError) -> EndcapError:
    again: EndcapError = pickle.loads(pickle.dumps(error))
    return again


def by_document(error: EndcapError) -> EndcapError:
    return rebuild_error(json.loads(json.dumps(describe_error(error))))


@pytest.mark.parametrize("cross", [by_pickle, by_document])
@pytest.mark.parametrize("error", [MISSING, INVALID], ids=["not found", "spec"])
def test_an_error_is_the_same_behind_a_process(error: EndcapError, cross: Callable[[EndcapError], EndcapError]) -> None:
    again = cross(error)
    assert (type(again), again.to_json()) == (type(error), error.to_json())
    assert getattr(again, "problems", None) == getattr(error, "problems", None)


def test_an_error_of_another_module_keeps_its_class_by_pickle_and_its_nearest_as_a_document() -> None:
    same = by_pickle(HELD)
    assert isinstance(same, ConflictError)
    assert same.managers == ["kubectl"]
    nearest = by_document(HELD)
    assert (type(nearest), nearest.to_json()) == (ClusterError, HELD.to_json())
