"""endcap deploy --popularity: the kill switch, in a cluster before anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

import click

from endcap.deploy import switch_back, switch_to_popularity
from endcap.deploy.kill_switch import show_switch, throw_in_cluster
from endcap.errors import EndcapError
from endcap.retries import disable_retries
from endcap.store import Store

if TYPE_CHECKING:
    from endcap.cluster import Cluster


@dataclass(frozen=True)
class KillSwitch:
    """The switch of a recommender: in the store, and in a cluster if a namespace is named.

    Parameters
    ----------
    recommender, store
        What is served, and where its desired state is.
    namespace
        Of the cluster that serves; empty: none is meant.
    place
        A kubeconfig and a context, each None for the usual one.
    """

    recommender: str
    store: Store
    namespace: str
    place: tuple[str | None, str | None]

    def throw(self, *, by: str, why: str) -> list[str]:
        """Have popularity answer everyone. Returns what a person should know of it.

        The cluster is asked first, by one call that waits for nobody: whatever store, reconciler and pipelines do. The
        desired state follows, and then the cluster gets its list too.
        """
        if self.namespace:
            with suppress(EndcapError), disable_retries():
                # If it fails, the second call says why.
                if throw_in_cluster(self.recommender, self._cluster, self.namespace, datetime.now(UTC)):
                    click.echo(f"  … gateways of namespace {self.namespace} answer with popularity", err=True)
        outcome = switch_to_popularity(self.recommender, self.store, by=by, why=why)
        if self.namespace:
            show_switch(outcome.state, self._cluster, self.namespace)
        lines = [f"to take it back: endcap deploy {self.recommender} --no-popularity"]
        if outcome.shortfall is not None:
            lines.append(
                "only the gateway's list answers, and gives an empty list for a category or a filter, since no package "
                f"of popularity can be made: {outcome.shortfall}"
            )
        return lines

    def take_back(self) -> list[str]:
        """Have the versions answer again. Returns what a person should know of it."""
        state = switch_back(self.recommender, self.store)
        if self.namespace:
            show_switch(state, self._cluster, self.namespace)
        return []

    @cached_property
    def _cluster(self) -> Cluster:
        from endcap.cluster import connect

        return connect(*self.place)


@contextmanager
def explain_rest(outcome: list[str], recommender: str) -> Iterator[None]:
    """Turn an error of what follows the switch into a line: popularity answers already."""
    try:
        yield
    except EndcapError as error:
        outcome.append(
            f"popularity answers everyone, and the rest is left to others: {error}. The rollout controller goes on, or "
            f"`endcap deploy {recommender}` by someone who may"
        )
