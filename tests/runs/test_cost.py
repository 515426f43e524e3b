"""What a step costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.errors import EndcapError, UserError
from endcap.runs import read_run
from endcap.runs.cost import Cost, add_costs, measure_cost
from endcap.store import Store
from endcap_components.lifecycle import run_step


def test_in_a_pod_the_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 81500000\nuser_usec 1\n")
    (tmp_path / "memory.peak").write_text("123456\n")
    here = measure_cost(2.0, 0, cgroup=tmp_path)
    assert 0 < here.cpu_seconds != 81.5
    assert here.peak_memory_bytes > 10_000_000
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert measure_cost(2.0, 4, cgroup=tmp_path) == Cost(81.5, 8.0, 123456)
    # An older control group has other files.
    assert measure_cost(2.0, 0, cgroup=tmp_path / "none").peak_memory_bytes > 10_000_000


def test_a_run_costs_what_its_steps_do_and_memory_is_not_added() -> None:
    steps = [Cost(1.0, 2.0, 30, 4), Cost(0.5, 0.0, 20, 5)]
    assert add_costs(steps) == Cost(1.5, 2.0, 30, 9)
    assert Cost.from_document({"cost": steps[0].to_json()}) == steps[0]
    assert Cost.from_document({}) == Cost() == add_costs([])


def test_a_step_that_refuses_its_gpus_records_why(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_GPU", "two")
    with pytest.raises(UserError), run_step("ingest", store.root, run="r"):
        pass
    (ingest,) = read_run(store, "r").steps
    assert ingest.fault is not None
    assert (ingest.fault.code, ingest.cost.gpu_seconds) == ("gpu.request-malformed", 0.0)


def test_a_step_records_its_cost_also_if_it_fails(store: Store) -> None:
    with store.publish("snapshots", "toys/abc") as draft:
        (draft.path / "events").write_bytes(bytes(5000))
    address = store.find("snapshots", "toys/abc")
    assert address is not None
    with run_step("ingest", store.root, run="r") as current:
        current.done(address)
    with pytest.raises(EndcapError), run_step("features", store.root, run="r"):
        raise EndcapError("no session is left", code="features.no-session")
    run = read_run(store, "r")
    ingest, features = run.steps
    assert ingest.cost.cpu_seconds > 0 < features.cost.cpu_seconds
    # The artifact was there before the step began.
    assert (ingest.reused, ingest.cost.stored_bytes, features.cost.stored_bytes) == (True, 0, 0)
