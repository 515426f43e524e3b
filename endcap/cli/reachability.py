"""Refuse places that only this machine can reach, before a run starts in a cluster."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from endcap.errors import Problem, SpecError, UserError
from endcap.online.address import parse_address
from endcap.redaction import find_secret
from endcap.secrets import MLFLOW
from endcap.spec.load import Loaded
from endcap.spec.source import SourceSpec

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104 - refused
_BUCKET = "s3://"


def check_sources(loaded: Loaded) -> None:
    """Raise SpecError if sources of the shop, or inputs of steps of SQL, are files of this machine. The error names
    each."""
    shop = loaded.shop
    tables = {"events": shop.events, "items": shop.items, "customers": shop.customers}
    sources: dict[tuple[str, str], SourceSpec] = {
        (f"shop {shop.name}", f"{table}.sources[{number}].path"): source
        for table, of_table in tables.items()
        for number, source in enumerate(of_table.sources if of_table is not None else [])
    }
    sources |= {
        (f"recommender {loaded.recommender.name}", f"pipeline.steps.{name}.sql.inputs.{table}.path"): source
        for name, step in loaded.recommender.pipeline.steps.items()
        for table, source in (step.sql.inputs.items() if step.sql is not None and step.enabled else ())
    }
    problems = [
        Problem(
            place,
            key,
            f"{source.path}, which a pod in a cluster cannot read",
            "s3://bucket/…, a table of BigQuery, or a simulated source",
            "Copy the files into a bucket and name them by --set, an overlay or the spec's file.",
            code="not-allowed",
        )
        for (place, key), source in sources.items()
        if not (source.simulated or source.bigquery or source.step) and not source.path.startswith(_BUCKET)
    ]
    if problems:
        raise SpecError(problems)


def check_addresses(arguments: dict[str, Any]) -> None:
    """Raise UserError if an address of a run is a place of this machine, or shows a password.

    Parameters
    ----------
    arguments
        The run's arguments, such as store, registry, online and customers.
    """
    from endcap.registry import check_address
    from endcap.store.s3 import split_address

    store, registry = arguments["store"], arguments.get("registry")
    if "://" not in store or store.startswith("file:"):
        raise UserError(
            f"--store {store}: a cluster cannot reach a folder of this machine; give s3://bucket/prefix",
            code="cli.unreachable-from-cluster",
            option="--store",
            found=store,
        )
    if store.startswith(_BUCKET):
        split_address(store)  # refuses credentials in the address
    if (customers := arguments.get("customers")) is not None and not customers.startswith(_BUCKET):
        raise UserError(
            f"--customers {customers}: a cluster cannot reach a file of this machine; give s3://bucket/…",
            code="cli.unreachable-from-cluster",
            option="--customers",
            found=customers,
        )
    online = arguments.get("online", "")
    server = parse_address(online) if online.startswith(("redis:", "rediss:")) else None
    if online.startswith("sqlite:") or (server is not None and server.host in _LOOPBACK):
        raise UserError(
            "--online: a cluster cannot reach an online store of this machine; give its address there",
            code="cli.unreachable-from-cluster",
            option="--online",
        )
    if server is not None and not {"username", "password"}.isdisjoint(server.options):
        raise UserError(
            "--online: a password would be shown in KFP's pages; leave the option out, and put the address into the "
            "Secret of the step, as ENDCAP_ONLINE (pipeline.steps.recommend.secrets)",
            code="cli.password-shown",
            option="--online",
        )
    if registry:
        check_address(registry)
        parts = urlsplit(registry)
        if parts.username is not None or find_secret(registry):
            raise UserError(
                "--registry: a password would be shown in KFP's pages; give the address without it, and put "
                f"{MLFLOW[0]} and {MLFLOW[1]}, or {MLFLOW[2]}, into the Secret of every step (pipeline.secret)",
                code="cli.password-shown",
                option="--registry",
                variables=list(MLFLOW),
            )
        if parts.scheme not in ("http", "https") or parts.hostname in _LOOPBACK:
            raise UserError(
                f"--registry {registry}: a cluster cannot reach it; give MLflow's address there, such as "
                "http://endcap-mlflow.endcap.svc.cluster.local:5000",
                code="cli.unreachable-from-cluster",
                option="--registry",
                found=registry,
            )
