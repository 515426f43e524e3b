"""endcap demo: simulate a shop, train two models on its log, serve both, and let shoppers decide on the second."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import click

from endcap.cli.live_rollout import follow_rollout, print_event, print_policy
from endcap.cli.run import run_pipeline
from endcap.errors import EndcapError, UserError
from endcap.spec.base import parse_date
from endcap.spec.spec_files import SHIPPED
from endcap.store import Store, open_store, report_storage_errors

if TYPE_CHECKING:
    import pyarrow as pa

    from endcap.client import Client
    from endcap.simulation.simulate import SimulatedLog
    from endcap.spec import Recommender

MARKER = ".endcap-demo"
SHOPPERS = 1000
START = "2026-03-02"
ENVIRONMENT = "live"
"""The overlay of the demo's spec that has the rollout."""
PATIENCE = 10.0
"""The seconds that a client waits for an answer."""


@dataclass(frozen=True)
class _DemoPlan:
    """The days after the log's start when the champion and its challenger are trained."""

    champion: int = 7
    challenger: int = 28


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".endcap/demo"),
    show_default=True,
    help="The folder to write.",
)
@click.option(
    "--events",
    type=click.IntRange(min=1000),
    default=300_000,
    show_default=True,
    help="About how many events the simulated log has.",
)
@click.option("--seed", default=42, show_default=True, help="The seed of the random numbers.")
def command(folder: Path, events: int, seed: int) -> None:
    """Simulate a shop, train a champion and, three weeks later, a challenger, serve both, and let shoppers decide.

    The demo empties its folder first. When it returns, all processes that it started have ended.
    """
    from endcap.cli.demo_live import LivingShop
    from endcap.cli.products import Products
    from endcap.client import Client
    from endcap.spec.load import load

    begun = time.monotonic()
    folder = folder.resolve()
    store_url = str(folder / "store")
    plan = _DemoPlan()
    print_heading("A simulated shop", f"its log and everything made of it lie in {folder}")
    empty_folder(folder)
    os.environ["ENDCAP_DEMO"] = str(folder)
    log = _simulate(events, seed, plan)
    spec = SHIPPED / "demo.yaml"
    loaded = load(spec, env=ENVIRONMENT, sets=[f"seed={seed}"])

    trainings = (
        ("The first model", range(plan.champion)),
        ("Three weeks later: a challenger", range(plan.champion, plan.challenger)),
    )
    for title, days in trainings:
        date = f"{parse_date(START) + timedelta(days=days.stop):%Y-%m-%d}"
        print_heading(title, f"everything before {date}")
        _write_days(log, folder, days)
        run_pipeline(
            loaded,
            "training",
            store_url=store_url,
            registry="",
            logical_date=date,
            verbose=False,
            again=f"{shlex.join(['endcap', 'demo', '--folder', str(folder)])}   (makes everything again)",
        )

    print_heading("Both are served", "a predictor each, Envoy in front: a tenth of the shoppers meet the challenger")
    serving: Callable[..., AbstractContextManager[str]] = entry_points(group="endcap.server")["serving"].load()
    store = open_store(store_url)
    product = Products(log.items).format_line
    with (
        serving(store, "demo", port=0, listener=print_event) as address,
        Client(address, "demo", timeout=PATIENCE) as client,
    ):
        customer, session = _ask(client, log.events, product)
        _show_split(client)
        print_heading("The shop lives on", "actions of shoppers and the shop's rules take effect at once")
        LivingShop(client, loaded, store, folder, product).show_visit(session[-3:])
        print_heading("The shoppers decide", f"the rollout of pipelines/specs/demo/overlays/{ENVIRONMENT}.yaml")
        _let_shoppers_decide(store, loaded.recommender, address, log, seed)
    click.echo(f"\nThe demo took {time.monotonic() - begun:.0f} s; its processes have ended. Try next:")
    print_place()
    for line, why in _list_next_commands(store_url, spec, seed, plan, customer):
        click.echo(f"  {line}\n      {why}")


def _let_shoppers_decide(store: Store, recommender: Recommender, address: str, log: SimulatedLog, seed: int) -> None:
    """Send simulated shoppers until the rollout's loop has promoted the challenger for their clicks."""
    from endcap.simulation.live_habits import LiveHabits
    from endcap.simulation.live_shop import LiveShop
    from endcap.simulation.live_shoppers import LiveShoppers

    policy = recommender.rollout
    assert policy is not None
    print_policy(policy)
    shoppers = LiveShoppers(log, LiveHabits(people=4_000, interest=0.9), seed=seed)
    shop = LiveShop(
        address, recommender.name, shoppers, visits_per_second=40.0, pause=0.1, most_visits=48, timeout=PATIENCE
    )
    with shop.keep_open():
        history = follow_rollout(store, recommender.name, policy, "promoted", ("shown-superior",))
    counts = shop.count()
    click.echo(
        f"  {len(counts.shoppers):,} shoppers saw {counts.rankings:,} rankings. Version {history.state.version} serves "
        "everyone now, and is the champion."
    )


def empty_folder(folder: Path) -> None:
    """Empty the demo's folder. Raises UserError if the folder has other files."""
    marker = folder / MARKER
    if folder.exists() and not marker.is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} has files that no demo made. Name a new or an empty folder by --folder",
            code="cli.folder-not-empty",
            folder=str(folder),
        )
    with report_storage_errors(folder):
        shutil.rmtree(folder / "events", ignore_errors=True)
        shutil.rmtree(folder / "store", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text("made by `endcap demo`, which makes it again each time\n")


def _simulate(events: int, seed: int, plan: _DemoPlan) -> SimulatedLog:
    from endcap.simulation.simulate import simulate

    begun = time.monotonic()
    log = simulate(seed=seed, days=plan.challenger, events=events, start=parse_date(START))
    click.echo(
        f"  ✓ {log.events.num_rows:,} events of {plan.challenger} days, {log.items.num_rows:,} items, "
        f"in {time.monotonic() - begun:.1f} s"
    )
    return log


def _write_days(log: SimulatedLog, folder: Path, days: range) -> None:
    from endcap.simulation.simulate import write_log

    write_log(log, folder, days=days)
    click.echo(f"  {len(days)} files of events arrive in {folder / 'events'}")


def _ask(client: Client, events: pa.Table, product: Callable[[str], str]) -> tuple[str, list[str]]:
    """Ask for the rankings of three shoppers of the log's last day, and print them.

    Returns the last shopper, and the items of this shopper's session.
    """
    customer, session = "", list[str]()
    for customer, session in _find_last_sessions(events, count=3):
        click.echo(f"\n  {click.style(customer, bold=True)} looked at")
        for item in session[-3:]:
            click.echo(f"      {product(item)}")
        ranking = client.rank(shopper=customer, customer=customer, items=session, k=5)
        click.echo(f"    and is shown (by the {ranking.variant}, version {ranking.model_version})")
        for place, item in enumerate(ranking.ids, start=1):
            click.echo(f"    {place}. {product(item)}")
    return customer, session


def _show_split(client: Client) -> None:
    """Send a request for each of 1,000 shoppers and print who answered."""
    begun = time.monotonic()
    answered = Counter(client.rank(shopper=f"shopper-{number}", items=[], k=1).variant for number in range(SHOPPERS))
    click.echo(f"\n  {SHOPPERS:,} shoppers asked once each, in {time.monotonic() - begun:.1f} s:")
    for variant in ("stable", "canary"):
        share = answered[variant] / SHOPPERS
        click.echo(f"    {variant:<7} {answered[variant]:>5,}  {share:6.1%}  {'█' * round(40 * share)}")
    if not answered["canary"]:
        raise EndcapError(
            "the challenger got no shopper. The lines above say why it was not deployed", code="cli.demo-no-canary"
        )


def _find_last_sessions(events: pa.Table, count: int) -> Iterator[tuple[str, list[str]]]:
    """Find the last sessions with at least three items, each of another customer."""
    frame = events.select(["session", "customer", "item", "time"]).to_pandas().tail(5000)
    served: set[str] = set()
    for _, rows in sorted(frame.groupby("session"), key=lambda group: group[1]["time"].max(), reverse=True):
        customer = rows["customer"].iloc[0]
        if rows["item"].nunique() >= 3 and isinstance(customer, str) and customer not in served and len(served) < count:
            served.add(customer)
            yield customer, rows.sort_values("time", kind="stable")["item"].tolist()


def print_place() -> None:
    """Print how to put `endcap` on the path, if it is not there."""
    if shutil.which("endcap") is None:
        click.echo(f"  . {shlex.quote(str(Path(sys.executable).with_name('activate')))}\n      puts endcap on the path")


def print_heading(title: str, what: str) -> None:
    """Print the heading of a part."""
    click.echo(f"\n{click.style(title, bold=True)} ({what})")


def _list_next_commands(store_url: str, spec: Path, seed: int, plan: _DemoPlan, customer: str) -> list[tuple[str, str]]:
    store = ["--store", store_url]
    date = f"{parse_date(START) + timedelta(days=plan.challenger):%Y-%m-%d}"
    again = ["endcap", "run", str(spec), *store, "--logical-date", date, "--set", f"seed={seed}"]
    demo = f"ENDCAP_DEMO={shlex.quote(os.environ['ENDCAP_DEMO'])}"
    return [
        (
            shlex.join(["endcap", "rank", "demo", "--customer", customer, *store]),
            "show the items that this shopper would get now; nothing needs to run for it",
        ),
        (shlex.join(["endcap", "serve", "demo", *store]), "serve the champion until Ctrl-C, on port 8080"),
        (
            shlex.join(["endcap", "rollout", "report", "demo", *store]),
            "write the rollout as an HTML file: share, effect with its band, every decision",
        ),
        (
            shlex.join(["endcap", "rollout", "abort", "demo", *store]),
            "take the new version back from everyone; version 1 serves again",
        ),
        (
            shlex.join(["endcap", "registry", "list", "demo", *store]),
            "list the versions, and the data of each",
        ),
        (
            f"{demo} {shlex.join([*again, '--set', 'model.max_epochs=8'])}",
            "train a better model on the same data: a tenth of the shoppers meet it; unchanged steps are reused",
        ),
        (
            shlex.join(["endcap", "deploy", "demo", "--share", "0.3", *store]),
            "give version 3 three tenths of the shoppers; the first tenth keeps its ranking",
        ),
        ("make demo-rollout", "see a better, a harmful, a slow and a failing version meet shoppers"),
        ("endcap run rsc15", "use a real shop's clicks, if ../shared/data exists"),
        ("docs/your-own-log.md", "do the same with your own log, by two small YAML files"),
    ]
