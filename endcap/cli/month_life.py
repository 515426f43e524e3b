"""The month's shop as it lives: each day its files, its runs, what a person decides, and what is removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.live_rollout import echo_wrapped, follow_rollout, print_event
from endcap.cli.month_log import ArrivingLog, simulate_month
from endcap.cli.month_schedules import MonthClock, MonthSchedules, age_store
from endcap.cli.month_story import RECIPES, get_date, get_day, get_recipe, is_rolled_out
from endcap.errors import EndcapError, NotFoundError
from endcap.runs import find_run
from endcap.spec.load import Loaded, load
from endcap.spec.spec_files import SHIPPED
from endcap.store import Store

if TYPE_CHECKING:
    from endcap.registry import Registry, Version
    from endcap.schedules.ledger_records import LedgerEntry

NAME = "demo-month"
_ONE_DAY = timedelta(days=1)
_INDENT = " " * 12
_VISITS_PER_SECOND, _PAUSE, _MOST_VISITS, _TIMEOUT = 60.0, 0.1, 64, 10.0


@dataclass
class DayOutcome:
    """What came of a day.

    Attributes
    ----------
    date
        ISO.
    runs
        Each end of a run: `step`, `reason` and `cause` as the ledger has them; `gate`, `version`, `mrr` and `bad_rows`
        where there are any.
    skipped
        Reasons of times that were left out, as far as no run of the day had succeeded before.
    again
        How often a run's process died.
    hours_since_success
        At the end of the day.
    champion
        The version that serves everyone at the end of the day; empty: none.
    rollout
        `version`, `phase` and `reason`, if shoppers decided on a version.
    replayed
        `answers` of that rollout that were computed again, and how many are `unexplained`.
    removed
        Artifacts, and `bytes` before and after, if old data were removed.
    explained
        What is known of a version: files, days, events, and whether it was rebuilt equal.
    forgotten
        `artifacts` that were removed because they held a customer who is forgotten, and `versions` that learnt from
        the customer. `left`: what could not be removed yet. `code`: of the error if the champion is rebuilt after that.
    """

    date: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    again: int = 0
    hours_since_success: float = 0.0
    champion: str = ""
    rollout: dict[str, str] | None = None
    replayed: dict[str, int] | None = None
    removed: dict[str, int] | None = None
    explained: dict[str, Any] | None = None
    forgotten: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return asdict(self)


class MonthLife:
    """Lives through the month.

    Parameters
    ----------
    folder
        Gets the log and the store.
    store
        The store in it.
    seed
        Of the log and the shoppers.
    days
        How many days are lived through.
    """

    def __init__(self, folder: Path, store: Store, seed: int, days: int) -> None:
        from endcap.registry import get_default_uri, open_registry

        self._folder, self._store, self._seed = folder, store, seed
        self._log = ArrivingLog(simulate_month(seed, days), folder)
        self._clock = MonthClock(get_date(1))
        self._uri = get_default_uri(store)
        self._open_registry: Callable[[], Registry] = lambda: open_registry(self._uri, store)
        self._schedules: MonthSchedules | None = None
        self._in_force = ""

    def live(self, number: int) -> DayOutcome:
        """Live through a day, and print it."""
        day, date = get_day(number), get_date(number)
        if day.says:
            click.echo(f"{date:%a %d %b}  {click.style(day.says, bold=True)}")
        schedules = self._take_recipe(number)
        schedules.kills_next = day.kills
        for upload in day.uploads:
            schedules.pass_time(date + upload.at)
            self._promote_waiting()
            self._log.upload(number, upload)
        schedules.pass_time(date + _ONE_DAY - timedelta(minutes=1))
        facts = DayOutcome(f"{date:%Y-%m-%d}", hours_since_success=round(schedules.count_hours_since_success(), 1))
        lines = list(self._read_entries(schedules.list_entries(date), facts))
        if not any(run["step"] == "succeeded" for run in facts.runs):
            limit = schedules.loaded.recommender.schedule.parts["train"].late_after
            assert limit is not None
            is_late = timedelta(hours=facts.hours_since_success) > limit
            fires = f"the alert EndcapScheduleLate {'fires' if is_late else 'is silent'}"
            lines.append(
                f"{facts.hours_since_success:.0f} h without a success: {fires} "
                f"(late_after {limit / timedelta(hours=1):.0f}h)"
            )
        for place, line in enumerate(lines):
            head = _INDENT if day.says or place else f"{date:%a %d %b}  "
            click.echo(head + line)
        if is_rolled_out(number):
            begun = datetime.now(UTC)
            facts.rollout = self._let_shoppers_decide(number, schedules.loaded)
            facts.replayed = self._replay(begun)
        else:
            self._promote_waiting()
        champion = self._open_registry().find_champion(NAME)
        facts.champion = "" if champion is None else champion.version
        if day.cleans:
            facts.removed = self._clean()
        if day.explains and champion is not None:
            facts.explained = self._explain(champion)
        if day.forgets and champion is not None:
            facts.forgotten = self._forget(champion, number)
        age_store(Path(self._store.root.removeprefix("file://")), _ONE_DAY)
        return facts

    def count_steps(self) -> Mapping[str, int]:
        """Return how often each step of the schedule was taken, with its reason."""
        return {} if self._schedules is None else self._schedules.count_steps()

    def measure_store(self) -> int:
        """Return the bytes of all artifacts."""
        from endcap.retention import Inventory

        return sum(artifact.bytes for artifact in Inventory(self._store).list_artifacts().values())

    def _take_recipe(self, number: int) -> MonthSchedules:
        """Return the schedules by the spec of a day. A change of the spec restarts them, as a scheduler must be."""
        recipe = get_recipe(number)
        if self._schedules is None or self._in_force != recipe:
            loaded = load(SHIPPED / f"{NAME}.yaml", sets=RECIPES[recipe].sets)
            self._schedules, self._in_force = MonthSchedules(loaded, self._store, self._clock), recipe
        return self._schedules

    def _read_entries(self, entries: Sequence[LedgerEntry], facts: DayOutcome) -> Iterator[str]:
        """Note what the ledger says of a day, and return its lines."""
        for entry in entries:
            if entry.step == "again":
                facts.again += 1
                yield f"{entry.at:%H:%M}  the run's process is gone; another one goes on"
            elif entry.step in ("succeeded", "failed", "canceled"):
                run = {"step": entry.step, "reason": entry.reason, "cause": entry.cause, **self._read_run(entry.run)}
                facts.runs.append(run)
                yield f"{entry.at:%H:%M}  {_describe_run(run)}"
            elif entry.step == "skipped" and not any(run["step"] == "succeeded" for run in facts.runs):
                facts.skipped.append(entry.reason)
                yield f"{entry.at:%H:%M}  no run ({entry.reason})"

    def _read_run(self, name: str) -> dict[str, Any]:
        """Read what a run gave from its record and its artifacts."""
        run = find_run(self._store, name)
        steps = {} if run is None else {step.name: step for step in run.steps if step.state == "done"}
        facts: dict[str, Any] = {}
        if "ingest" in steps:
            bad = self._read_facts(steps["ingest"].result)["bad"]
            facts["bad_rows"] = sum(count for reasons in bad.values() for count in reasons.values())
        if "evaluate" in steps:
            verdict = self._read_facts(steps["evaluate"].result)
            facts |= {"gate": verdict["outcome"], "mrr": round(verdict["metrics"]["challenger"]["mrr@20"], 4)}
        if "register" in steps:
            facts["version"] = steps["register"].result
        return facts

    def _read_facts(self, address: str) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = self._store.manifest(address)["facts"]
        return facts

    def _promote_waiting(self) -> None:
        """Give everyone the version that waits for shoppers, as `endcap rollout promote` does: its recipe is known."""
        from endcap.experiments.decision_log import DecisionLog
        from endcap.experiments.rollout_state import GUARDED, RolloutCommand
        from endcap.rollout.controller import RolloutController

        last = DecisionLog(self._store, NAME).find_last()
        if last is not None and not last.after.is_over and last.after.phase not in GUARDED:
            command = RolloutCommand("promote", "the shop's script", "a known recipe on newer data")
            RolloutController(self._store, NAME, self._uri).command(command)

    def _let_shoppers_decide(self, number: int, loaded: Loaded) -> dict[str, str]:
        """Serve, and send simulated shoppers until the rollout has ended as the story says."""
        from endcap.simulation.live_habits import LiveHabits
        from endcap.simulation.live_shop import LiveShop
        from endcap.simulation.live_shoppers import LiveShoppers

        policy, recipe = loaded.recommender.rollout, RECIPES[get_recipe(number)]
        assert policy is not None
        habits = LiveHabits(people=4_000, interest=0.9, repeats=0.0, patience=0.75)
        shoppers = LiveShoppers(simulate_month(self._seed, number), habits, seed=self._seed)
        serving: Callable[..., AbstractContextManager[str]] = entry_points(group="endcap.server")["serving"].load()
        with serving(self._store, NAME, port=0, listener=print_event) as address:
            shop = LiveShop(
                address,
                NAME,
                shoppers,
                visits_per_second=_VISITS_PER_SECOND,
                pause=_PAUSE,
                most_visits=_MOST_VISITS,
                timeout=_TIMEOUT,
            )
            with shop.keep_open():
                state = follow_rollout(self._store, NAME, policy, recipe.phase, recipe.reasons).state
        return {"version": state.version, "phase": state.phase, "reason": state.reason}

    def _replay(self, begun: datetime) -> dict[str, int]:
        """Compute the sampled answers of a rollout again, as `endcap replay` does."""
        from endcap.replay import LogSource, replay
        from endcap.samples.key_file import open_pseudonymiser

        place = self._store.root.removeprefix("file://")
        report = replay(
            NAME,
            self._store,
            self._open_registry(),
            f"{place}/samples",
            begun,
            datetime.now(UTC),
            log=LogSource(f"{place}/intake"),
            pseudonymiser=open_pseudonymiser(self._store),
        )
        for name, check in report.checks.items():
            counts = ", ".join(f"{outcome} {count:,}" for outcome, count in check.answers.most_common())
            echo_wrapped(f"{report.answers:,} answers are computed again, by {name}: {counts}.")
        return {"answers": report.answers, "unexplained": report.unexplained}

    def _clean(self) -> dict[str, int]:
        """Remove what nobody needs any more, as `endcap retention apply` does."""
        from endcap.retention import apply_retention

        before = self.measure_store()
        removal = apply_retention(self._store, self._uri)
        after = self.measure_store()
        click.echo(
            f"{_INDENT}{len(removal.removed)} artifacts are removed: {before / 1e6:.1f} MB before, "
            f"{after / 1e6:.1f} after"
        )
        return {"artifacts": len(removal.removed), "bytes_before": before, "bytes_after": after}

    def _explain(self, version: Version) -> dict[str, Any]:
        """Explain a version down to its files, rebuild it, and tell of the first version whose package is gone."""
        from endcap.lineage import trace_version
        from endcap.reproduction import reproduce

        lineage = trace_version(version, self._store)
        files, days = lineage.list_files(), sorted(lineage.list_days())
        run = lineage.run.name if lineage.run is not None else "unknown"
        echo_wrapped(
            f"Version {version.version} is of run {run}, and of {len(files)} files with {len(days)} days, from "
            f"{days[0]} to {days[-1]}."
        )
        result = reproduce(version, self._store)
        parts = ", ".join(f"{part.subject} {'equal' if part.equal else part.text}" for part in result.compared)
        echo_wrapped(f"Rebuilt in {result.seconds:.1f} s: {parts}.")
        if not result.equal:
            raise EndcapError(
                f"version {version.version} was rebuilt differently: {parts}. `endcap reproduce {NAME}` says what may "
                "be why",
                code="cli.demo-month-differs",
                version=version.version,
            )
        return {
            "version": version.version,
            "files": len(files),
            "days": len(days),
            "equal": result.equal,
            "gone": self._find_gone(
                min(self._open_registry().list_versions(NAME), key=lambda version: int(version.version))
            ),
        }

    def _find_gone(self, version: Version) -> str:
        """Try to rebuild a version; return the code of the error, empty if it can be rebuilt."""
        from endcap.reproduction import reproduce

        try:
            reproduce(version, self._store)
        except NotFoundError as error:
            echo_wrapped(f"Version {version.version} cannot be rebuilt any more ({error.code}).")
            return error.code
        return ""

    def _forget(self, champion: Version, number: int) -> dict[str, Any]:
        """Forget a customer, as `endcap events forget` does."""
        from endcap.forgetting import forget_customers
        from endcap.project import open_project

        sets = RECIPES[get_recipe(number)].sets
        project = open_project(SHIPPED / f"{NAME}.yaml", sets=sets, store=self._store.root, registry=self._uri)
        outcome = forget_customers(
            self._store,
            project.shop.name,
            [self._log.find_customer()],
            self._uri,
            why="the customer's wish",
            remake=lambda: (project.ingest().address, project.features().address),
        )
        left = len(outcome.kept) + len(outcome.waiting_for) + len(outcome.open_segments)
        echo_wrapped(
            f"{len(outcome.removed)} artifacts that hold the customer are removed, {left} are left, and the data are "
            f"made without them. Versions that learnt from them: {len(outcome.versions)}."
        )
        return {
            "artifacts": len(outcome.removed),
            "versions": len(outcome.versions),
            "left": left,
            "code": self._find_gone(champion),
        }


def _describe_run(run: Mapping[str, Any]) -> str:
    if run["step"] != "succeeded":
        return f"a run {run['step']} ({run['reason']})"
    bad = f"; {run['bad_rows']} bad rows set aside" if run.get("bad_rows") else ""
    if "version" in run:
        return f"version {run['version']}, gate {run['gate']}, mrr@20 {run['mrr']:.4f}{bad}"
    return f"no version: gate {run.get('gate', 'not reached')}, mrr@20 {run.get('mrr', 0.0):.4f}{bad}"
