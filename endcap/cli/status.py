"""endcap status: show what serves of every recommender, since when, with which data, and its last run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.options import json_option, place_env_option, print_json, registry_option, store_option
from endcap.cli.stores import open_existing_store
from endcap.deploy import Deployment, PopularitySwitch, Target, find_state, list_deployed
from endcap.deploy.state import Pin
from endcap.errors import EndcapError
from endcap.runs import Run, list_runs
from endcap.runs.text import format_time, shorten
from endcap.store import Store
from endcap.tables import format_text_table

if TYPE_CHECKING:
    from endcap.registry import Registry, Version

RUNS = 100
"""How many of the latest runs are searched for each recommender's last one."""


@dataclass(frozen=True)
class ServedTarget:
    """A version that the desired state has."""

    role: str
    """`stable`, `canary`, `previous`, `baseline` or `shadow`."""
    version: str
    share: float
    """The share of the shoppers, 0 to 1; for a shadow, the share of the requests that it gets. The baseline's is of all
    shoppers, and the other arms' of those whom it does not have."""
    since: datetime | None
    """When the version was deployed, in UTC. None if an earlier release deployed it; then it was before `changed`."""
    package: str
    dataset: str
    """The dataset's address; empty if the package is not in this store."""
    until: datetime | None
    """The data have events before this time, in UTC."""
    snapshot: str


@dataclass(frozen=True)
class Status:
    """What is deployed, registered and run of a recommender."""

    recommender: str
    served: Sequence[ServedTarget]
    changed: datetime | None
    """When the desired state last changed, in UTC."""
    switch: PopularitySwitch | None
    """Why popularity answers everyone; None: it does not."""
    pin: Pin | None
    """Why what is served stays as it is; None: it may change."""
    aliases: dict[str, str]
    """The version of each alias: champion, challenger."""
    waiting: Sequence[Version]
    """The versions newer than all that are served. They wait for approval or for their deployment."""
    last_run: Run | None

    def to_json(self) -> dict[str, Any]:
        waiting = [{"version": version.version, "state": version.state, "why": version.why} for version in self.waiting]
        return {
            "recommender": self.recommender,
            "served": [asdict(version) for version in self.served],
            "changed": self.changed,
            "popularity": None
            if self.switch is None
            else {"since": self.switch.since, "by": self.switch.by, "why": self.switch.why},
            "pin": None if self.pin is None else self.pin.model_dump(mode="json"),
            "aliases": self.aliases,
            "waiting": waiting,
            "last_run": self.last_run.to_json() if self.last_run else None,
        }


@click.command()
@place_env_option
@store_option
@registry_option
@json_option
def command(store_url: str, registry: str, as_json: bool) -> None:
    """Show for every recommender what serves, since when and with which data; its aliases; what waits; its last run."""
    from endcap.registry import find_registry

    store = open_existing_store(store_url)
    known = find_registry(registry, store)
    listed = list(list_statuses(store, known))
    if as_json:
        print_json([status.to_json() for status in listed])
        return
    if not listed:
        click.echo(f"nothing is deployed, registered or run in {store_url}; `endcap run SPEC` is the first step")
        return
    if known is None:
        click.echo("there is no registry here; name one by --registry to see aliases and what waits", err=True)
    click.echo("\n\n".join(map(_format_status, listed)))


def list_statuses(store: Store, registry: Registry | None) -> Iterator[Status]:
    """Yield the status of each recommender that is deployed, registered or was run, by name."""
    runs = list_runs(store, limit=RUNS)
    names = set(list_deployed(store))
    names |= {run.recommender for run in runs if run.recommender}
    names |= set(registry.list_names() if registry else [])
    for name in sorted(names):
        state = find_state(name, store)
        versions = registry.list_versions(name) if registry else []
        yield Status(
            recommender=name,
            served=[] if state is None else list(_find_served(state, store)),
            changed=None if state is None else state.changed,
            switch=None if state is None else state.switch,
            pin=None if state is None else state.pin,
            aliases={alias: version.version for version in versions for alias in version.aliases},
            waiting=_list_waiting(versions, [] if state is None else state.targets),
            last_run=next((run for run in runs if run.recommender == name), None),
        )


def format_pin(recommender: str, pin: Pin) -> str:
    """Return a line that says who pinned what is served, since when, why, and how to take it back."""
    pinned = click.style("pinned", fg="yellow")
    return f"{pinned} since {format_time(pin.since)} by {pin}; back: endcap deploy {recommender} --unpin"


def _find_served(state: Deployment, store: Store) -> Iterator[ServedTarget]:
    served: list[tuple[str, Target, float]] = [("stable", state.stable, state.stable_share)]
    beside = {"baseline": state.baseline, "shadow": state.shadow}
    served += [(role, arm, arm.share) for role, arm in (*state.arms.items(), *beside.items()) if arm is not None]
    for role, target, share in served:
        dataset, until, snapshot = _describe_data(target.package, store)
        since = state.since.get(target.version)
        yield ServedTarget(role, target.version, share, since, target.package, dataset, until, snapshot)


def _describe_data(package: str, store: Store) -> tuple[str, datetime | None, str]:
    """Return a package's dataset, the end of its data, and the snapshot."""
    try:
        dataset = str(store.manifest(package)["facts"]["dataset"])
        facts = store.manifest(dataset)["facts"]
        return dataset, datetime.fromtimestamp(facts["until"] / 1000, UTC), str(facts["snapshot"])
    except (EndcapError, KeyError):  # it is in another store, or was deleted
        return "", None, ""


def _list_waiting(versions: Iterable[Version], targets: Iterable[Target]) -> list[Version]:
    """List the versions newer than all that are served, without rejected ones."""
    newest = max((int(target.version) for target in targets), default=0)
    return [version for version in versions if int(version.version) > newest and version.state != "rejected"]


def _format_status(status: Status) -> str:
    lines = [click.style(status.recommender, bold=True)]
    if status.pin is not None:
        lines.append(f"  {format_pin(status.recommender, status.pin)}")
    if status.switch is not None:
        why = f" ({status.switch.why})" if status.switch.why else ""
        since = f"since {format_time(status.switch.since)} by {status.switch.by}{why}"
        back = f"back: endcap deploy {status.recommender} --no-popularity"
        lines.append(f"  {click.style('popularity answers everyone', fg='yellow')} {since}; {back}")
    rows = [_format_row(version, status) for version in status.served]
    lines += [f"  {line}" for line in format_text_table(None, rows).splitlines()] if rows else ["  nothing is deployed"]
    lines += [
        f"  {'' if served.role == 'baseline' else 'version '}{served.version}: {_format_times(served, status)}"
        for served in status.served
    ]
    for version in status.waiting:
        needs = "a person's approval" if version.state == "pending" else "its deployment"
        lines.append(f"  waiting   version {version.version} waits for {needs}")
    if run := status.last_run:
        lines.append(f"  last run  {run.name} {run.state}, {format_time(run.started)}  {shorten(run.gave)}".rstrip())
    return "\n".join(lines)


def _format_row(served: ServedTarget, status: Status) -> tuple[str, ...]:
    of = "requests copied" if served.role == "shadow" else "shoppers"
    aliases = ", ".join(alias for alias, version in status.aliases.items() if version == served.version)
    name = "popularity" if served.role == "baseline" else f"version {served.version}"
    return (served.role, name, f"{served.share:.4g} of {of}", aliases)


def _format_times(served: ServedTarget, status: Status) -> str:
    since = f"since {format_time(served.since)}" if served.since else f"since before {format_time(status.changed)}"
    return f"{since}, {f'data before {format_time(served.until)}' if served.until else 'data unknown'}"
