"""endcap schedule: runs that start by themselves."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.completion import complete_spec
from endcap.cli.options import (
    add_kfp_place_options,
    add_spec_argument,
    env_option,
    json_option,
    make_surplus_error,
    online_option,
    print_json,
    registry_option,
    store_option,
)
from endcap.cli.stores import open_existing_store
from endcap.errors import EndcapError, UserError, append_code
from endcap.runs.start import get_user
from endcap.runs.text import format_time
from endcap.spec.base import format_duration
from endcap.spec.load import Loaded, list_paths, load
from endcap.spec.schedule import PARTS
from endcap.spec.spec_files import SPECS, find_spec
from endcap.store import Store, open_store

if TYPE_CHECKING:
    from endcap.schedules.ledger import ScheduleLedger
    from endcap.schedules.ledger_records import LedgerEntry, RunClaim
    from endcap.schedules.notifications import NotificationDesk
    from endcap.schedules.part_look import ClaimedRuns, ScheduledPart, ScheduleNews
    from endcap.schedules.scheduler import Scheduler
    from endcap.schedules.scheduler_page import SchedulerPage

_Source = click.core.ParameterSource
_LONGEST_PAUSE = 5.0
"""Seconds between two looks: a run of another scheduler may end, and a person may retrigger one."""
_SHOWN = 10
_AT_ONCE = {"here": 1, "kfp": 100}
_specs_argument = click.argument("specs", nargs=-1, metavar="[SPEC]...", shell_complete=complete_spec)


@click.group()
def command() -> None:
    """Run pipelines by themselves: at times, when new data arrive, or both.

    The section `schedule` of a recommender's spec says when. Each decision stands in a ledger in the store.
    """


@command.command()
@_specs_argument
@env_option
@click.option("--once", is_flag=True, help="Do what is due now, wait until it has ended, and end.")
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    help=f"The most runs that go on at the same time [default: {_AT_ONCE['here']} here, {_AT_ONCE['kfp']} on KFP].",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Take notifications of a bucket at this address; senders show the token in ENDCAP_SCHEDULE_TOKEN.",
)
@click.option(
    "--page",
    metavar="HOST:PORT",
    help="Serve /healthz, whether the scheduler still looks, and /metrics for Prometheus at this address.",
)
@store_option
@registry_option
@online_option
@click.option("--on", type=click.Choice(["here", "kfp"]), default="here", show_default=True, help="Where runs run.")
@add_kfp_place_options
@click.pass_context
def run(
    context: click.Context,
    /,
    specs: tuple[str, ...],
    env: str | None,
    once: bool,
    at_once: int | None,
    listen: str | None,
    page: str | None,
    store_url: str,
    registry: str,
    online: str,
    on: str,
    **kfp: Any,
) -> None:
    """Start each run when it is due, until Ctrl-C.

    SPEC is a recommender's YAML file, or the name of one in pipelines/specs. Without SPEC, all recommenders there that
    have a section schedule are looked after. A run goes on when this command ends. With --once the exit code is 1 if
    a run failed. With --on kfp the runs run on Kubeflow Pipelines; --online is then for lists alone.
    """
    from endcap.schedules.metrics import declare_schedules
    from endcap.schedules.scheduler import Scheduler

    if once and listen:
        raise make_surplus_error(["listen"], "does not go with --once, which ends")
    options = {name for name in context.params if context.get_parameter_source(name) is _Source.COMMANDLINE}
    if on == "here" and (surplus := sorted(options & set(kfp))):
        raise make_surplus_error(surplus, "works only with --on kfp")
    if on == "kfp" and context.get_parameter_source("store_url") is _Source.DEFAULT:
        from endcap.cli.run_kfp import STORE

        store_url = STORE
    store = open_store(store_url)
    parts = _list_parts(specs, env)
    runs: ClaimedRuns
    if on == "kfp":
        from endcap.cli.schedule_runs import make_kfp_runs

        # The addresses of this machine's environment may be of no use in the cluster, where a Secret gives them.
        places = {"registry": registry, "online": online}
        named = {name: value for name, value in places.items() if name in options or (name == "registry" and value)}
        runs = make_kfp_runs(parts, store, {"store": store_url, **named}, **kfp)
    else:
        from endcap.cli.schedule_runs import make_process_runs

        runs = make_process_runs(store, registry, online)
    for loaded in {part.recommender: part.loaded for part in parts}.values():
        declare_schedules(store, loaded.recommender.name, loaded.recommender.schedule.parts)
    scheduler = Scheduler(parts, store, runs, at_once=at_once or _AT_ONCE[on])
    stop, wake, woken = threading.Event(), threading.Event(), SimpleQueue[set[str]]()

    def end(number: int, frame: object) -> None:
        stop.set()
        wake.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)

    def wake_up(shops: set[str]) -> None:
        woken.put(shops)
        wake.set()

    click.echo(f"{len(parts)} schedules: {', '.join(part.name for part in parts)}; Ctrl-C ends this")
    with (
        _paging(page) if page else contextlib.nullcontext() as shown,
        _listening(listen, parts, wake_up) if listen else contextlib.nullcontext() as desk,
    ):
        if shown is not None and desk is not None:
            shown.notifications = desk.counts
        failures = _loop(scheduler, stop, wake, woken, once=once, store=store, page=shown)
    if once and failures:
        raise EndcapError(
            f"{len(failures)} of the schedules failed: {', '.join(failures)}. `endcap schedule status` tells why",
            code="schedule.run-failed",
            schedules=failures,
        )


@command.command()
@_specs_argument
@env_option
@store_option
@json_option
def status(specs: tuple[str, ...], env: str | None, store_url: str, as_json: bool) -> None:
    """Show of each schedule when it is next due, what runs, what waits, and the latest decisions with their reasons."""
    from endcap.schedules.ledger import read_ledger

    store = open_existing_store(store_url)
    parts = _list_parts(specs, env)
    ledgers = [(part, read_ledger(store, part.recommender, part.part)) for part in parts]
    if as_json:
        print_json([_describe(part, ledger) for part, ledger in ledgers])
        return
    for part, ledger in ledgers:
        click.echo(_format(part, ledger))


@command.command()
@add_spec_argument
@click.argument("part", type=click.Choice(list(PARTS)), default="train")
@env_option
@click.option("--why", required=True, help="The reason, kept in the ledger and in the run's record.")
@store_option
def retrigger(spec: str, part: str, env: str | None, why: str, store_url: str) -> None:
    """Make a run of SPEC due now, whatever ran before. PART is train, features or batch.

    The scheduler starts it. The ledger names you and the reason.
    """
    from endcap.schedules.ledger import update_ledger
    from endcap.schedules.versions import read_listing

    loaded = load(spec, env=env)
    schedule = loaded.recommender.schedule.parts.get(part)
    if schedule is None:
        raise _make_absent_error(loaded, part)
    store = open_store(store_url)
    version, now = read_listing(loaded, part, schedule, store).version, datetime.now(UTC)
    ledger = update_ledger(
        store, loaded.recommender.name, part, lambda before: before.retrigger(get_user(), why, version, now)
    )
    click.echo(f"run {ledger.last_number} of {loaded.recommender.name}/{part} is due; the scheduler starts it")


def _list_parts(specs: Sequence[str], env: str | None) -> list[ScheduledPart]:
    from endcap.schedules.scheduler import list_parts

    files = [find_spec(spec) for spec in specs]
    if not specs:
        files = [file for file in sorted(SPECS.glob("*.yaml")) if _has_schedule(file.read_text(errors="replace"))]
    parts = list_parts(load(path, env=env) for file in files for path in list_paths(file, env=env))
    if not parts:
        place = ", ".join(specs) or str(SPECS)
        raise UserError(
            f"{place}: no recommender has a section schedule. "
            "Add one, such as `schedule: {train: {cron: 0 3 * * *}}`",
            code="schedule.none",
            specs=list(specs),
        )
    return parts


def _has_schedule(text: str) -> bool:
    """Tell whether a file is worth loading: other files there may be no recommenders, or not be complete."""
    return any(line.startswith("schedule:") for line in text.splitlines())


@contextlib.contextmanager
def _paging(address: str) -> Iterator[SchedulerPage]:
    """Serve the scheduler's page for the length of a block."""
    from endcap.schedules.scheduler_page import SchedulerPage

    page = SchedulerPage(*_parse_address(address, "--page"))
    click.echo(f"health and metrics are at {page.address}")
    try:
        yield page
    finally:
        page.close()


@contextlib.contextmanager
def _listening(
    listen: str, parts: Sequence[ScheduledPart], wake_up: Callable[[set[str]], None]
) -> Iterator[NotificationDesk]:
    """Take notifications for the length of a block, and say at its end what came of them."""
    from endcap.schedules.notifications import NotificationDesk
    from endcap.schedules.webhook import NotificationWebhook, read_token

    host, port = _parse_address(listen, "--listen")
    notified = [part for part in parts if part.schedule.arrival is not None and part.schedule.arrival.notifications]
    if not notified:
        raise UserError(
            "--listen: no schedule has `arrival: {notifications: true}`, so notifications would wake up nothing",
            code="schedule.no-notifications",
            schedules=[part.name for part in parts],
        )
    shops = {part.loaded.shop.name: part.loaded.shop for part in notified}
    desk = NotificationDesk(shops.values())
    webhook = NotificationWebhook(desk, wake_up, host, port, read_token())
    click.echo(f"notifications are taken at {webhook.address}")
    try:
        yield desk
    finally:
        webhook.close()
        counts = ", ".join(f"{name} {count}" for name, count in sorted(desk.counts.items()))
        click.echo(f"notifications: {counts or 'none'}")


def _parse_address(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise UserError(f"{option}: {text!r} is not HOST:PORT, such as 127.0.0.1:9904", code="cli.usage", value=text)
    return host, int(port)


def _loop(
    scheduler: Scheduler,
    stop: threading.Event,
    wake: threading.Event,
    woken: SimpleQueue[set[str]],
    *,
    once: bool,
    store: Store,
    page: SchedulerPage | None,
) -> list[str]:
    """Look until somebody ends this, or with `once` until nothing is due. Returns the schedules that failed."""
    begun, failures = datetime.now(UTC), set[str]()
    while not stop.is_set():
        wake.clear()
        shops: set[str] = set()
        while not woken.empty():
            shops |= woken.get()
        looked = time.monotonic()
        all_news = scheduler.look(shops)
        if page is not None:
            page.note_look(time.monotonic() - looked, all_news)
        for news in all_news:
            _print_news(news)
            if news.fault is not None:
                failures.add(news.name)
        if once and not scheduler.runs.is_busy() and not _has_work(scheduler, store):
            break
        pause = (scheduler.find_next_look() - datetime.now(UTC)).total_seconds()
        end = max(0.05, min(pause, _LONGEST_PAUSE))
        while end > 0 and not wake.wait(min(end, 0.2)) and not scheduler.runs.has_ended_process():
            end -= 0.2
    if once:
        failures |= _list_failed(scheduler, store, begun)
    return sorted(failures)


def _has_work(scheduler: Scheduler, store: Store) -> bool:
    from endcap.schedules.ledger import read_ledger

    ledgers = (read_ledger(store, part.recommender, part.part) for part in scheduler.parts)
    return any(ledger.claim is not None or ledger.queue for ledger in ledgers)


def _list_failed(scheduler: Scheduler, store: Store, begun: datetime) -> set[str]:
    """List the schedules of which a run failed since a moment. The runs' own processes write that."""
    from endcap.schedules.ledger import read_ledger

    ledgers = {part.name: read_ledger(store, part.recommender, part.part) for part in scheduler.parts}
    return {
        name
        for name, ledger in ledgers.items()
        if any(entry.step == "failed" and entry.at >= begun for entry in ledger.entries)
    }


def _print_news(news: ScheduleNews) -> None:
    if news.fault is not None:
        click.echo(f"{news.name}: {append_code(str(news.fault), news.fault.code)}", err=True)
    if news.entry is not None:
        click.echo(f"{news.name}: {_format_entry(news.entry)}")


def _format_entry(entry: LedgerEntry) -> str:
    slot = f" of {format_time(entry.slot)}" if entry.slot else ""
    person = f" by {entry.by}: {entry.why}" if entry.by else ""
    reason = f" ({entry.reason})" if entry.reason else ""
    place = f" (on KFP {entry.created})" if entry.created else ""
    return f"{format_time(entry.at)}  {entry.step}{reason}  {entry.cause}{slot}{person}  {entry.run}{place}".rstrip()


def _describe(part: ScheduledPart, ledger: ScheduleLedger) -> dict[str, Any]:
    from endcap.schedules.clock_times import find_next_time

    due = find_next_time(part.schedule, datetime.now(UTC))
    return {
        "recommender": part.recommender,
        "part": part.part,
        "next": None if due is None else due.isoformat(),
        "running": None if ledger.claim is None else ledger.claim.model_dump(mode="json"),
        "waiting": [waiting.model_dump(mode="json") for waiting in ledger.queue],
        "entries": [entry.model_dump(mode="json") for entry in ledger.entries],
        "counts": ledger.counts,
        "succeeded_at": None if ledger.succeeded_at is None else ledger.succeeded_at.isoformat(),
        "is_late": _is_late(part, ledger),
    }


def _is_late(part: ScheduledPart, ledger: ScheduleLedger) -> bool | None:
    """Tell whether the last success is too long ago; None if there was none, or there is no limit."""
    limit = part.schedule.late_after
    if limit is None or ledger.succeeded_at is None:
        return None
    return datetime.now(UTC) - ledger.succeeded_at > limit


def _format_success(part: ScheduledPart, ledger: ScheduleLedger) -> str:
    if ledger.succeeded_at is None:
        return "-"
    limit = f", longer ago than {format_duration(part.schedule.late_after)}" if part.schedule.late_after else ""
    return f"{format_time(ledger.succeeded_at)}{limit if _is_late(part, ledger) else ''}"


def _format(part: ScheduledPart, ledger: ScheduleLedger) -> str:
    facts = _describe(part, ledger)
    arrival = part.schedule.arrival
    rows = [
        ("next", facts["next"] or ("when new data arrive" if arrival else "never")),
        ("running", _format_claim(ledger.claim) if ledger.claim else "-"),
        ("waiting", str(len(ledger.queue))),
        ("success", _format_success(part, ledger)),
        ("counts", ", ".join(f"{name} {count}" for name, count in sorted(ledger.counts.items())) or "-"),
    ]
    lines = [click.style(part.name, bold=True), *(f"  {name:<8} {text}" for name, text in rows)]
    entries = [f"  {_format_entry(entry)}" for entry in reversed(ledger.entries[-_SHOWN:])]
    return "\n".join([*lines, *entries])


def _format_claim(claim: RunClaim) -> str:
    if claim.place == "here":
        return claim.run
    return f"{claim.run} on KFP, {f'run {claim.created}' if claim.created else 'not created yet'}"


def _make_absent_error(loaded: Loaded, part: str) -> UserError:
    name, parts = loaded.recommender.name, list(loaded.recommender.schedule.parts)
    return UserError(
        f"{name} has no schedule for {part}; it has: {', '.join(parts) or 'none'}. "
        "`endcap run` runs a pipeline without one",
        code="schedule.no-part",
        recommender=name,
        part=part,
        allowed=parts,
    )
