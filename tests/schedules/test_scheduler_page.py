"""The page of a scheduler: well as long as it looks, with what it counts."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from endcap.errors import TransientError, UserError
from endcap.schedules import scheduler_page
from endcap.schedules.part_look import ScheduleNews
from endcap.schedules.scheduler_page import SchedulerPage


@pytest.fixture
def page() -> Iterator[SchedulerPage]:
    page = SchedulerPage("127.0.0.1", 0)
    yield page
    page.close()


def test_a_scheduler_is_well_while_it_looks(page: SchedulerPage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert httpx.get(f"{page.address}/healthz").status_code == 200
    monkeypatch.setattr(scheduler_page, "LONGEST_LOOK", 0.0)
    assert httpx.get(f"{page.address}/healthz").status_code == 503
    assert httpx.get(f"{page.address}/").status_code == 404


def test_looks_faults_and_notifications_are_counted(page: SchedulerPage) -> None:
    page.notifications = {"accepted": 2, "forged": 1}
    fault = TransientError("no answer", code="store.unreachable")
    for _ in range(2):
        page.note_look(0.25, [ScheduleNews("home/train", fault=fault), ScheduleNews("home/batch")])
    text = httpx.get(f"{page.address}/metrics").text
    samples = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["endcap_scheduler_look_seconds",] == 0.25
    assert samples["endcap_scheduler_faults_total", "store.unreachable", "home/train"] == 2
    assert samples["endcap_scheduler_notifications_total", "forged"] == 1


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError) as refused:
        SchedulerPage("127.0.0.1", taken.getsockname()[1])
    assert refused.value.code == "schedule.port-taken"
