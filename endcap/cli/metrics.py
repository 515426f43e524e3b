"""endcap metrics: serve what a store tells Prometheus, until Ctrl-C."""

from __future__ import annotations

import signal
import threading

import click

from endcap.cli.options import registry_option, store_option
from endcap.cli.stores import open_existing_store


@click.command()
@click.option("--port", default=9903, show_default=True, help="The page's port; 0 for any free one.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 lets in other machines."
)
@store_option
@registry_option
def command(port: int, host: str, store_url: str, registry: str) -> None:
    """Serve a page for Prometheus: rollouts, A/B tests, what serves, versions, runs, schedules, replays
    and lists.

    The page shows the store as it was at most a minute ago. It needs no server of Endcap. Alerts and dashboards on it
    are in the chart.
    """
    from endcap.monitoring import MetricsPage
    from endcap.replay.metrics import ReplayMetrics
    from endcap.schedules.metrics import ScheduleMetrics

    store = open_existing_store(store_url)
    more = {"schedules": ScheduleMetrics(store).read, "replays": ReplayMetrics(store).read}
    page = MetricsPage(store, registry or None, host, port, more=more)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    click.echo(f"Metrics are at {page.address}; Ctrl-C ends this")
    try:
        stop.wait()
    finally:
        page.close()
