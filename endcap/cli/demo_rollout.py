"""endcap demo-rollout: four new versions meet shoppers, and what shoppers do decides on each."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.demo import empty_folder, print_heading, print_place
from endcap.cli.live_rollout import echo_wrapped, follow_rollout, print_event, print_policy
from endcap.store import open_store

if TYPE_CHECKING:
    from endcap.experiments.evidence import EffectEvidence
    from endcap.project import Project
    from endcap.registry.package import LoadedPackage
    from endcap.rollout.history import RolloutHistory
    from endcap.simulation.live_shoppers import LiveShoppers, LiveVisit, Ranker

NAME = "demo-rollout"
FIRST_DAYS = "2026-03-05"
"""The first version learns from the log before this date."""
VISITS = 400
"""So many visits give the true effect."""
_VISITS_PER_SECOND, _PAUSE, _MOST_VISITS = 70.0, 0.1, 64
_TIMEOUT = 10.0
_LONGEST_TRIAL = 2.0


@dataclass(frozen=True)
class _Story:
    """A new version and what becomes of it. phase, reasons: as in `follow_rollout`; changes: of the spec."""

    name: str
    title: str
    plot: str
    phase: str
    reasons: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)


def _use_own_class(name: str) -> dict[str, Any]:
    path = f"endcap.cli.demo_models:{name}"
    model = {"name": "custom", "class": path, "parameters": {"sample": 500, "neighbours": 100, "last_events": 5}}
    return {"classes": [path], "model": model}


_STORIES = (
    _Story(
        "better",
        "A better model",
        "The first version knows three days of the log. This one has the same recipe and knows all fourteen.",
        "promoted",
        ("shown-superior",),
    ),
    _Story(
        "harmful",
        "Better offline, worse for shoppers",
        "It may also list what the shopper has viewed in this visit (exclude: none). In the log shoppers often view an "
        "item again, so it hits more. But they go back to such an item by themselves, and click no ranking.",
        "rolled-back",
        ("metric-harmed", "metric-harmed-early"),
        {"exclude": "none"},
    ),
    _Story(
        "slow",
        "A slow model",
        "It asks another service at each call, and waits for it (SlowNeighbours in endcap/cli/demo_models.py). Its "
        "rankings are the usual ones.",
        "rolled-back",
        ("guardrail-broken",),
        _use_own_class("SlowNeighbours"),
    ),
    _Story(
        "failing",
        "A failing model",
        "It divides by the time after which a shopper came back to an item (RevisitNeighbours in "
        "endcap/cli/demo_models.py). The log has these times. The shop's requests have none, so it raises an error.",
        "rolled-back",
        ("guardrail-broken",),
        _use_own_class("RevisitNeighbours"),
    ),
)


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".endcap/demo-rollout"),
    show_default=True,
    help="The folder to write.",
)
@click.option("--seed", default=42, show_default=True, help="The seed of the shoppers.")
@click.option(
    "--story",
    "names",
    type=click.Choice([story.name for story in _STORIES]),
    multiple=True,
    help="A story that is shown; repeat it for more [default: all].",
)
def command(folder: Path, seed: int, names: tuple[str, ...]) -> None:
    """Roll out four new versions to simulated shoppers: a better, a harmful, a slow and a failing one.

    Servers, shoppers' requests and decisions are real, and time is shortened. The demo empties its folder first. When
    it returns, all processes that it started have ended.
    """
    from endcap.project.factory import open_project

    begun = time.monotonic()
    stories = [story for story in _STORIES if not names or story.name in names]
    folder = folder.resolve()
    print_heading("A simulated shop", f"its log and everything made of it lie in {folder}")
    empty_folder(folder)
    store = open_store(str(folder / "store"))
    project = open_project(NAME, store=store.root.removeprefix("file://"), progress=lambda line: None)
    policy = project.recommender.rollout
    assert policy is not None
    shoppers = _make_shoppers(project, seed)
    click.echo(f"  ✓ {project.ingest().summary}")
    print_heading("The policy", "the section rollout of pipelines/specs/demo-rollout.yaml")
    print_policy(policy)

    print_heading("The first version", f"vsknn, trained on everything before {FIRST_DAYS}")
    _train(project, FIRST_DAYS)
    champion = _load(project)
    rate = shoppers.compute_click_rate(_make_ranker(champion), visits=VISITS)
    echo_wrapped(f"Its true click rate is {rate:.1%} of the rankings, by the known tastes of {VISITS} visits.")
    click.echo(f"  the logs of the servers lie below {folder / 'store' / '.work' / 'serving'}")
    serving: Callable[..., AbstractContextManager[str]] = entry_points(group="endcap.server")["serving"].load()
    with serving(store, NAME, port=0, listener=print_event) as address:
        live = _open_shop(address, shoppers)
        for number, story in enumerate(stories, start=1):
            print_heading(f"Story {number}: {story.title}", f"version {number + 1}")
            echo_wrapped(story.plot)
            challenger_project = project.replace(**story.changes)
            _train(challenger_project, None)
            challenger = _load(challenger_project)
            with live.keep_open():
                challenger_project.deploy()
                history = follow_rollout(store, NAME, policy, story.phase, story.reasons)
            rate = _tell_truth(history, shoppers, challenger, rate)
            _write_report(history, folder)
    counts = live.count()
    click.echo(
        f"\n{counts.visits:,} visits of {len(counts.shoppers):,} shoppers saw {counts.rankings:,} rankings. The demo "
        f"took {time.monotonic() - begun:.0f} s; its processes have ended. Try next:"
    )
    print_place()
    for number in range(2, len(stories) + 2):
        click.echo(f"  {folder / f'version-{number}.html'}")
    click.echo("      open these reports in a browser: share, effects with their bands, guardrails, decisions")
    for line, why in _list_next_commands(store.root.removeprefix("file://")):
        click.echo(f"  {line}\n      {why}")


def _make_shoppers(project: Project, seed: int) -> LiveShoppers:
    """Simulate the shop's log with its truth, and let its customers come again after its end."""
    from endcap.simulation.live_habits import LiveHabits
    from endcap.simulation.live_shoppers import LiveShoppers
    from endcap.simulation.simulate import simulate

    simulation = project.shop.events.sources[0].simulated
    assert simulation is not None
    habits = LiveHabits(people=4_000, interest=0.9, repeats=0.0, patience=0.75)
    log = simulate(**simulation.model_dump())
    echo_wrapped(
        f"{habits.people:,} of its customers go on to visit it. At each ranking a shopper wants an item, drawn from "
        f"the known truth behind the log. She is interested with a probability of {habits.interest:.0%}, and looks at "
        f"each next place with one of {habits.patience:.0%}. She clicks the item if she sees it. If she has viewed it "
        "in this visit already, she goes back to it by herself."
    )
    return LiveShoppers(log, habits, seed=seed)


def _open_shop(address: str, shoppers: LiveShoppers) -> Any:
    from endcap.simulation.live_shop import LiveShop

    return LiveShop(
        address,
        NAME,
        shoppers,
        visits_per_second=_VISITS_PER_SECOND,
        pause=_PAUSE,
        most_visits=_MOST_VISITS,
        timeout=_TIMEOUT,
    )


def _train(project: Project, until: str | None) -> None:
    """Take a version through all steps up to its registration, and print what the gate says of it."""
    begun = time.monotonic()
    project.features(until=until)
    project.train()
    verdict = project.evaluate()
    project.refit()
    registered = project.register()
    rows = {
        name: label
        for name, label in (("challenger", "offline"), ("champion", "the champion"))
        if name in verdict.metrics
    }
    figures = "; ".join(
        f"{label} " + ", ".join(f"{metric} {verdict.metrics[name][metric]:.4f}" for metric in ("mrr@20", "hr@20"))
        for name, label in rows.items()
    )
    click.echo(f"  ✓ trained and judged in {time.monotonic() - begun:.0f} s: {figures}")
    click.echo(f"  ✓ {registered.summary}")
    if registered.number == "1":
        project.deploy()


def _load(project: Project) -> LoadedPackage:
    from endcap.registry.package import load_package

    return load_package(Path(project.store.fetch(project.refit().address)))


def _tell_truth(history: RolloutHistory, shoppers: LiveShoppers, challenger: LoadedPackage, rate: float) -> float:
    """Print the true effect beside the measured one, or how the version's rankings go where nothing else runs.

    Parameters
    ----------
    history
        The rollout.
    shoppers
        Whose tastes are known.
    challenger
        Its version.
    rate
        The true click rate of the champion before.

    Returns
    -------
    float
        The true click rate of the champion now.
    """
    if history.state.reason == "guardrail-broken":
        rankings, failures, seconds = _try_rankings(challenger, shoppers)
        echo_wrapped(
            f"The truth: of {rankings:,} rankings that shoppers ask for, {failures / rankings:.0%} fail, and one takes "
            f"{1000 * seconds / rankings:.0f} ms before any gateway."
        )
        return rate
    own_rate = shoppers.compute_click_rate(_make_ranker(challenger), visits=VISITS)
    echo_wrapped(f"The truth: {100 * (own_rate / rate - 1):+.3g} % clicks, by the known tastes of {VISITS} visits.")
    if history.evidence is not None:
        echo_wrapped(_describe_measured(history.evidence.effects[0]))
    return own_rate if history.state.phase == "promoted" else rate


def _describe_measured(effect: EffectEvidence) -> str:
    from endcap.experiments.decision_parts import format_change

    met = effect.shoppers.get("canary", 0)
    return (
        f"Measured: {format_change(effect.effect)} ({format_change(effect.lower)} to {format_change(effect.upper)}). "
        f"{met:,} shoppers met the version in {effect.exposures.get('canary', 0):,} rankings; the others' click rate "
        f"was {effect.stable_rate:.0%}."
    )


def _make_ranker(package: LoadedPackage) -> Ranker:
    ranker = package.ranker

    def rank(visit: LiveVisit) -> Sequence[str]:
        return ranker.rank([ranker.parse({"items": list(visit.views)})])[0].ids

    return rank


def _try_rankings(package: LoadedPackage, shoppers: LiveShoppers) -> tuple[int, int, float]:
    """Rank for the first visits, for a few seconds. Returns how many rankings, how many failed, and the seconds."""
    rank, rankings, failures, begun = _make_ranker(package), 0, 0, time.monotonic()
    for number in range(VISITS):
        visit, stays = shoppers.start_visit(number), True
        while stays:
            rankings += 1
            try:
                rank(visit)
            except ArithmeticError:
                failures += 1
            stays = shoppers.react([], visit).stays
        if time.monotonic() - begun > _LONGEST_TRIAL:
            break
    return rankings, failures, time.monotonic() - begun


def _write_report(history: RolloutHistory, folder: Path) -> None:
    from endcap.rollout.report import render_rollout

    (folder / f"version-{history.state.version}.html").write_text(render_rollout(history), encoding="utf-8")


def _list_next_commands(store: str) -> list[tuple[str, str]]:
    at = f"--store {shlex.quote(store)}"
    return [
        (f"endcap rollout status {NAME} {at}", "show on one screen how the last rollout ended"),
        (f"endcap rollout history {NAME} --all {at}", "list the decisions of all rollouts, a line each"),
        (f"endcap registry list {NAME} {at}", "list the versions; those taken back are rejected, with the reason"),
        ("docs/rollouts.md", "write a policy for your own shop"),
    ]
