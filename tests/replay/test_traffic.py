"""A shop with late events, changing rules and two versions: nothing that was answered is unexplained."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from endcap.replay import LogSource, reasons, replay
from tests.replay.conftest import Shop
from tests.replay.recorded import KEY
from tests.replay.simulated_traffic import START, record_traffic, simulate_traffic


def test_nothing_is_unexplained(shop: Shop, tmp_path: Path) -> None:
    traffic = simulate_traffic("abcxyz", ["c0", "c1", "c2", "new"], 600, per_second=10)
    samples, intake = record_traffic(traffic, [shop.home], shop.store, tmp_path)
    since = datetime.fromtimestamp(START / 1000, UTC)
    report = replay(
        "home",
        shop.store,
        shop.registry,
        samples,
        since,
        since + timedelta(days=1),
        log=LogSource(intake),
        pseudonymiser=KEY,
    )
    assert report.answers == 600
    assert report.unexplained == 0, report.checks["log"].examples["unexplained"]
    assert dict(report.checks["model"].answers) == {reasons.EQUAL: 600}
    assert set(report.checks["rules"].answers) == {reasons.EQUAL, reasons.REFRESHED_RULE}
    expected = {
        reasons.EQUAL,
        reasons.FROM_REQUEST,
        reasons.LATE_EVENT,
        reasons.CLOCK_AHEAD,
        reasons.EXPIRED,
        reasons.IN_FLIGHT,
    }
    assert set(report.checks["log"].answers) == expected
