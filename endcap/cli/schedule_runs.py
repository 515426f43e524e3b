"""Where the runs of schedules run: in processes of this machine, or on Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from endcap.cli.options import check_online_address
from endcap.cli.reachability import check_addresses, check_sources
from endcap.cli.run_kfp import build_parameters
from endcap.runs.start import SCHEDULE, Start
from endcap.schedules.kfp_runs import KfpRuns
from endcap.schedules.ledger_records import RunClaim
from endcap.schedules.part_look import ScheduledPart
from endcap.schedules.process_runs import ProcessRuns, StartedProcess
from endcap.schedules.run_process import RunOrder, start_process
from endcap.schedules.versions import list_places
from endcap.spec.schedule import PARTS
from endcap.store import Store


def make_process_runs(store: Store, registry: str, online: str) -> ProcessRuns:
    """Make what runs claims in processes. registry, online: addresses. Raises UserError for a bad one."""
    if registry:
        from endcap.registry import check_registry

        check_registry(registry, store)
    check_online_address(online, store.root)

    def start(part: ScheduledPart, claim: RunClaim) -> StartedProcess:
        return start_process(make_order(part, claim, store, registry=registry, online=online))

    return ProcessRuns(start, store)


def make_order(
    part: ScheduledPart, claim: RunClaim, store: Store, *, registry: str = "", online: str = "", ahead: float = 0.0
) -> RunOrder:
    """Make what the process of a claim is to run. registry, online: addresses; ahead: as in `RunOrder`."""
    return RunOrder.of(
        part.loaded,
        part=part.part,
        run=claim.run,
        store=store.root,
        registry=registry,
        online=online,
        until=_format_until(claim),
        deadline=part.schedule.deadline.total_seconds(),
        why=explain_claim(claim),
        data=describe_data(part, claim),
        ahead=ahead,
    )


def make_kfp_runs(
    parts: Sequence[ScheduledPart],
    store: Store,
    arguments: Mapping[str, str],
    *,
    kfp_host: str | None,
    kfp_namespace: str | None,
    kfp_user_namespace: str | None,
    kfp_token: str | None,
    kfp_cookies: str | None,
    kfp_context: str | None,
    kfp_ca: str | None,
    serving_namespace: str | None,
) -> KfpRuns:
    """Make what runs claims on KFP.

    Parameters
    ----------
    parts
        The schedules.
    store
        Holds the ledgers and the runs' records.
    arguments
        Parameters of the pipelines: the addresses `store`, `registry` and `online`, as far as they were given.
    kfp_host, kfp_namespace, kfp_user_namespace, kfp_token, kfp_cookies, kfp_context, kfp_ca, serving_namespace
        See `endcap.cli.options.add_kfp_place_options`.

    Raises
    ------
    EndcapError
        The cluster cannot reach an address or a source, or KFP does not answer.
    """
    check_addresses(dict(arguments))
    for loaded in {part.recommender: part.loaded for part in parts}.values():
        check_sources(loaded)
    connect: Callable[..., Any] = entry_points(group="endcap.runner")["kfp"].load()
    server = connect(
        host=kfp_host,
        namespace=kfp_namespace,
        user_namespace=kfp_user_namespace,
        token=kfp_token,
        cookies=kfp_cookies,
        context=kfp_context,
        ca=kfp_ca,
    )

    def make_arguments(part: ScheduledPart, claim: RunClaim) -> dict[str, Any]:
        return make_run_parameters(part, claim, arguments, serving_namespace, page=server.page(""))

    return KfpRuns(server.serve_schedules(), make_arguments, store)


def make_run_parameters(
    part: ScheduledPart, claim: RunClaim, arguments: Mapping[str, str], serving_namespace: str | None, *, page: str
) -> dict[str, Any]:
    """Make the parameters of a claim's run on KFP. page: where KFP's pages show runs; the others: as above."""
    pipeline, until = PARTS[part.part], _format_until(claim)
    start = Start.of(
        part.loaded,
        pipeline,
        how=SCHEDULE,
        why=explain_claim(claim),
        logical_date=until,
        data=describe_data(part, claim),
        page=page,
    )
    chosen = {name: value for name, value in arguments.items() if name != "online" or pipeline == "recommend"}
    dated = {"logical_date": until} if until else {}
    return build_parameters(part.loaded, pipeline, {**chosen, **dated, "trigger": start.to_text()}, serving_namespace)


def describe_data(part: ScheduledPart, claim: RunClaim) -> dict[str, Any]:
    """Describe the data for which a run is started: see `endcap.runs.start.Start`."""
    arrival = {} if claim.arrival is None else claim.arrival.model_dump(mode="json", exclude_defaults=True)
    version = {"version": claim.due.version} if claim.due.version else {}
    return {**version, "paths": list_places(part.loaded.shop), **arrival}


def explain_claim(claim: RunClaim) -> str:
    """Return why a run was started, for its record."""
    due = claim.due
    cause = {
        "cron": f"due at {due.at.isoformat(timespec='minutes')}",
        "arrival": "new data",
        "retrigger": f"retriggered by {due.by}: {due.why}",
    }[due.cause]
    again = f", attempt {claim.attempt}" if claim.attempt > 1 else ""
    return f"{cause}{f'; version {due.version} of the data' if due.version else ''}{again}"


def _format_until(claim: RunClaim) -> str:
    return claim.due.until.isoformat() if claim.due.until else ""
