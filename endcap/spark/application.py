"""A Spark in the cluster that is started for a step: a SparkApplication, which ends with the step.

The step's account may create, read and delete SparkApplications, create Secrets and read pods. It may not make pods,
which could have any account or Secret of the namespace: the operator and the driver have their own accounts for that.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from endcap.cluster import Cluster, StaleError
from endcap.cluster.kinds import POD, SPARK_APPLICATION
from endcap.cluster.own_pod import build_owner_reference, find_own_pod, read_own_namespace
from endcap.cluster.pod_faults import list_pod_faults
from endcap.errors import ClusterError, EndcapError, UserError
from endcap.processes import ignore_sigterm
from endcap.spark.application_object import (
    APPLICATION,
    DRIVER,
    PORT,
    ROLE,
    build_application,
    build_token_secret,
)
from endcap.spark.server import OUT_OF_MEMORY
from endcap.spec.base import format_duration
from endcap.spec.spark import SparkSpec

Json = dict[str, Any]
Progress = Callable[[str], None]
ENDED = frozenset({"SUBMISSION_FAILED", "FAILING", "FAILED", "SUCCEEDING", "COMPLETED"})
"""States from which an application that is never started again does not come back."""
LOOK = 2.0
"""Seconds between two looks at an application that starts."""
SEEN_WITHIN = 120.0
"""Seconds until the operator has given the application a state."""
_DIES_WITHIN = 5.0
"""Seconds until Kubernetes says that a driver has ended that broke a connection."""
_REASONS = 3


@dataclass(frozen=True)
class SparkApplication:
    """An application whose driver serves Spark Connect, and how it is reached."""

    cluster: Cluster
    name: str
    namespace: str
    address: str
    token: str = field(repr=False)

    def wait_for_end(self) -> int | None:
        """Return the status with which the driver ended; None if it runs, or if Kubernetes does not say."""
        ends_at = time.monotonic() + _DIES_WITHIN
        with contextlib.suppress(EndcapError):
            while time.monotonic() < ends_at:
                driver = _find_driver(_list_pods(self.cluster, self.name, self.namespace))
                if driver is None:
                    return -1
                if (status := _read_exit_status(driver)) is not None:
                    return status
                time.sleep(LOOK / 4)
        return None

    def read_errors(self) -> str:
        """Return what the operator and Kubernetes say of the application and its pods."""
        try:
            live = self.cluster.find(SPARK_APPLICATION, self.name, self.namespace)
            pods = _list_pods(self.cluster, self.name, self.namespace)
        except EndcapError as error:
            return str(error)
        if live is None:
            return f"the SparkApplication {self.name} in namespace {self.namespace} was removed"
        return _explain(live, pods)


@contextlib.contextmanager
def start_application(
    cluster: Cluster, spec: SparkSpec, progress: Progress = lambda line: None
) -> Iterator[SparkApplication]:
    """Make a SparkApplication, wait until its driver serves Spark Connect, and remove it when the block ends.

    It is removed at an error and at SIGTERM, too (within `endcap.processes.exit_on_sigterm`). If the step is killed,
    Kubernetes removes it with the step's pod, as long as both are in one namespace; otherwise its driver ends when
    nobody has had a session for a while, and the operator removes it.

    Parameters
    ----------
    cluster
        The connection to Kubernetes.
    spec
        The section, with an application.
    progress
        Takes lines for people.

    Raises
    ------
    UserError
        If nothing says in which namespace.
    ClusterError
        If the application fails, or is not ready in time; the message says why.
    """
    assert spec.application is not None
    namespace = spec.application.namespace or read_own_namespace()
    if namespace is None:
        raise UserError(
            "spark.application.namespace: none, and this runs in no pod, whose namespace would be taken. Set it",
            code="spark.no-namespace",
            setting="spark.application.namespace",
        )
    name, token = f"endcap-spark-{secrets.token_hex(4)}", secrets.token_hex(32)
    owner = build_owner_reference(find_own_pod(cluster), namespace)
    try:
        live = _create(cluster, build_application(spec, name, namespace, owner))
        _check_templates(live)
        with contextlib.suppress(StaleError):
            cluster.create(build_token_secret(live, token))
        progress(f"SparkApplication {name} in namespace {namespace}: waiting for its driver and executors")
        address = _wait(cluster, name, namespace, spec, progress)
        yield SparkApplication(cluster, name, namespace, address, token)
    finally:
        with ignore_sigterm():
            _remove(cluster, name, namespace, progress)


def _create(cluster: Cluster, thing: Json) -> Json:
    try:
        return cluster.create(thing)
    except StaleError:
        # No other has this name: a call that was sent again because its answer was lost.
        return cluster.get(SPARK_APPLICATION, thing["metadata"]["name"], thing["metadata"]["namespace"])


def _check_templates(live: Json) -> None:
    """Raise ClusterError if the cluster's definition of the kind has dropped the pods' templates."""
    if all(live["spec"][pod].get("template") for pod in ("driver", "executor")):
        return
    raise ClusterError(
        "spark.application: the SparkApplications of this cluster have no pod templates. Install the Spark operator's "
        "release 2.1 or later, with its custom resource definitions",
        code="spark.operator-too-old",
    )


def _wait(cluster: Cluster, name: str, namespace: str, spec: SparkSpec, progress: Progress) -> str:
    """Wait until the driver serves Spark Connect and an executor runs, and return the driver's address.

    Spark would wait for executors without an end, and say nothing.
    """
    assert spec.application is not None
    began = time.monotonic()
    limit = spec.application.ready_within
    last_reason = ""
    while True:
        live = cluster.find(SPARK_APPLICATION, name, namespace)
        status = (live or {}).get("status") or {}
        state = (status.get("applicationState") or {}).get("state") or ""
        pods = _list_pods(cluster, name, namespace)
        reason = "it was removed" if live is None else _explain(live, pods)
        if live is None or state in ENDED:
            raise ClusterError(
                f"spark: the SparkApplication {name} in namespace {namespace} did not start: {reason}. Correct "
                "spark.image, spark.application.service_account, or what else it says; a quota must have room for the "
                "driver and the executors",
                code="spark.application-failed",
                name=name,
                namespace=namespace,
                state=state,
                reason=reason,
            )
        driver = _find_driver(pods)
        running = list((status.get("executorState") or {}).values()).count("RUNNING")
        if state == "RUNNING" and running and driver is not None and _is_ready(driver):
            progress(f"SparkApplication {name}: {running} of {spec.executors} executors run")
            return _build_address(driver["status"]["podIP"])
        if reason != last_reason:
            progress(f"SparkApplication {name}: {reason}")
            last_reason = reason
        waited = time.monotonic() - began
        if not state and waited > min(SEEN_WITHIN, limit.total_seconds()):
            raise ClusterError(
                f"spark: no operator has looked at the SparkApplication {name} within {waited:.0f} s. Check whether "
                f"the Spark operator runs, and whether it watches the namespace {namespace} (its chart's "
                "spark.jobNamespaces)",
                code="spark.no-operator",
                name=name,
                namespace=namespace,
            )
        if waited > limit.total_seconds():
            raise ClusterError(
                f"spark: the SparkApplication {name} in namespace {namespace} was not ready within "
                f"{format_duration(limit)} (spark.application.ready_within): {reason}. Check quotas, nodes and the "
                "image, or wait longer",
                code="spark.application-not-ready",
                name=name,
                namespace=namespace,
                limit=format_duration(limit),
                state=state,
                reason=reason,
            )
        time.sleep(LOOK)


def _list_pods(cluster: Cluster, name: str, namespace: str) -> list[Json]:
    return cluster.list_objects(POD, namespace, labels=f"{APPLICATION}={name}")


def _find_driver(pods: list[Json]) -> Json | None:
    return next((pod for pod in pods if pod["metadata"]["labels"].get(ROLE) == "driver"), None)


def _is_ready(pod: Json) -> bool:
    status = pod.get("status") or {}
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions") or []}
    return bool(status.get("podIP")) and conditions.get("Ready") == "True"


def _build_address(ip: str) -> str:
    return f"sc://[{ip}]:{PORT}" if ":" in ip else f"sc://{ip}:{PORT}"


def _read_exit_status(driver: Json) -> int | None:
    status = driver.get("status") or {}
    for container in status.get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated")
        if container["name"] == DRIVER and ended:
            return OUT_OF_MEMORY if ended.get("reason") == "OOMKilled" else int(ended["exitCode"])
    return -1 if status.get("phase") in ("Failed", "Succeeded") else None


def _explain(live: Json, pods: list[Json]) -> str:
    """Say where an application is and what keeps it, as far as the operator and Kubernetes say it."""
    status = live.get("status") or {}
    state = status.get("applicationState") or {}
    executors = list((status.get("executorState") or {}).values())
    reasons = [f"its state is {state.get('state') or 'not set'}"]
    if state.get("errorMessage"):
        reasons.append(state["errorMessage"].strip())
    if executors:
        counts = ", ".join(f"{executors.count(name)} {name}" for name in sorted(set(executors)))
        reasons.append(f"executors: {counts}")
    faults = [fault for pod in pods for fault in list_pod_faults(pod)]
    return "; ".join([*reasons, *faults[:_REASONS]])


def _remove(cluster: Cluster, name: str, namespace: str, progress: Progress) -> None:
    try:
        if cluster.delete(SPARK_APPLICATION, name, namespace):
            progress(f"SparkApplication {name} is removed")
    except EndcapError as error:
        progress(f"warning: SparkApplication {name} in namespace {namespace} could not be removed: {error}")
