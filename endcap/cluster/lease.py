"""Leader election: of several processes the one that holds a Lease acts (`coordination.k8s.io`).

As in client-go, nobody compares clocks of two machines: a Lease is free once its record has not changed for its
duration, by the watch of whoever wants it. A holder stops acting before others may take the Lease.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from endcap.cluster.api_errors import StaleError, UnreachableError
from endcap.cluster.client import Cluster
from endcap.cluster.kinds import LEASE
from endcap.errors import ClusterError

Json = dict[str, Any]
DURATION = 15.0
"""Seconds after which others may take a Lease that was not renewed."""
MARGIN = 5.0
"""Seconds before that at which the holder stops."""


class ClusterLease:
    """One process's hold on a Lease.

    Parameters
    ----------
    cluster
        The cluster.
    name, namespace
        The Lease. It is made if there is none.
    holder
        This process's name, such as its pod's. No two may have the same.
    read_seconds
        A clock that never goes back, in seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        namespace: str,
        holder: str,
        read_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.holder = holder
        self.uid = ""
        """The Lease's own identity, once it was held: that of all processes which share it."""
        self._cluster, self._name, self._namespace = cluster, name, namespace
        self._read_seconds = read_seconds
        self._renewed: float | None = None
        self._observed: tuple[str, float] = ("", 0.0)
        """The record's version, and when it was first seen."""

    @property
    def is_held(self) -> bool:
        """Whether this process may act now."""
        return self._renewed is not None and self._read_seconds() - self._renewed < DURATION - MARGIN

    def acquire(self) -> bool:
        """Take the Lease if it is free, or renew it. Returns whether this process holds it.

        Raises
        ------
        ForbiddenError, UnreachableError
            The cluster refuses, or does not answer.
        """
        begun = self._read_seconds()
        live = self._cluster.find(LEASE, self._name, self._namespace)
        if live is not None and not self._may_take(live, begun):
            self._renewed = None
            return False
        try:
            self.uid = self._write(live, self.holder)["metadata"]["uid"]
        except StaleError:
            # Somebody was faster.
            self._renewed = None
            return False
        # Counted from before the call, so that others never begin to count earlier.
        self._renewed = begun
        return True

    def release(self) -> None:
        """Give the Lease back, so that another process need not wait for its end. An error only makes it wait."""
        if self._renewed is None:
            return
        self._renewed = None
        with contextlib.suppress(ClusterError, UnreachableError):
            live = self._cluster.find(LEASE, self._name, self._namespace)
            if live is not None and live["spec"].get("holderIdentity") == self.holder:
                self._write(live, "")

    def _may_take(self, live: Json, now: float) -> bool:
        version, holder = live["metadata"]["resourceVersion"], live.get("spec", {}).get("holderIdentity")
        if not holder or holder == self.holder:
            return True
        if version != self._observed[0]:
            self._observed = (version, now)
        return now - self._observed[1] >= float(live["spec"].get("leaseDurationSeconds", DURATION))

    def _write(self, live: Json | None, holder: str) -> Json:
        spec = (live or {}).get("spec", {})
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        is_new = spec.get("holderIdentity", "") != holder
        thing: Json = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                # An empty one is no holder at all.
                **({"holderIdentity": holder} if holder else {}),
                "leaseDurationSeconds": int(DURATION),
                "acquireTime": now if is_new else spec.get("acquireTime", now),
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (1 if is_new and live is not None else 0),
            },
        }
        if live is None:
            # Made empty: what it is made with, an application that leaves it out does not remove.
            live = self._cluster.create({**thing, "spec": {"leaseDurationSeconds": int(DURATION)}})
        thing["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        return self._cluster.apply(thing, force=True)
