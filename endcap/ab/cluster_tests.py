"""The A/B tests of a namespace: each look that is due. The InferenceServices follow as they do for rollouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from endcap.ab.carrying_out import Notify
from endcap.ab.controller import AbController, ArmsWatcher, guard_test
from endcap.cluster import Cluster
from endcap.errors import EndcapError
from endcap.experiments.ab_log import AB_FOLDER
from endcap.rollout.cluster_loop import RecommenderReport, list_services
from endcap.rollout.feed import IntakeOutput
from endcap.rollout.request_watcher import GuardedArms
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store


class PollingArmsWatcher(ArmsWatcher, Protocol):
    """Measures guardrails of several arms, and reads them between two looks too."""

    def poll_arms(self, guarded: GuardedArms, policy: RolloutSpec) -> list[str]:
        """Read what was counted since the last call. Returns the arms of which a guardrail is broken."""


class ClusterTests:
    """Drives all A/B tests of a namespace. Nothing that counts is kept in the process.

    Parameters
    ----------
    cluster, namespace
        Where the InferenceServices are. Tests of recommenders that are served elsewhere are left alone.
    store, registry_uri
        Hold the logs, desired states, packages and versions.
    make_watcher
        Makes what measures the guardrails of a recommender; None: nobody does.
    notify
        Who gets messages.
    read_clock
        Returns the present moment, UTC.
    intake
        Where the intake writes, and how soon; None: as beside `endcap serve`.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        store: Store,
        registry_uri: str | None,
        *,
        make_watcher: Callable[[str], PollingArmsWatcher | None] = lambda recommender: None,
        notify: Sequence[Notify] = (),
        read_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        intake: IntakeOutput | None = None,
    ) -> None:
        self._cluster, self._namespace, self._store = cluster, namespace, store
        self._registry_uri, self._make_watcher, self._notify = registry_uri, make_watcher, notify
        self._read_clock, self._intake = read_clock, intake
        self._parts: dict[str, tuple[AbController, PollingArmsWatcher | None]] = {}

    def tick(self) -> list[RecommenderReport]:
        """Look at each test if a look is due, and finish what a killed process left.

        Returns
        -------
        list of RecommenderReport
            One for each recommender that the cluster serves and that ever had a test, with `errors` at the place
            ``ab``. An error of one of them holds up no other.

        Raises
        ------
        ForbiddenError, KindAbsentError, UnreachableError
            The InferenceServices could not be listed. Nothing was done.
        StoreError
            The logs could not be listed.
        """
        live = list_services(self._cluster, self._namespace)
        names = sorted(name for name in live if self._store.list_documents(f"{AB_FOLDER}/{name}"))
        self._parts = {name: self._parts.get(name) or self._make_part(name) for name in names}
        return [RecommenderReport(name, errors=self._look(*part)) for name, part in self._parts.items()]

    def _look(self, controller: AbController, watcher: PollingArmsWatcher | None) -> Mapping[str, EndcapError]:
        try:
            running = controller.find_running()
            broken: list[str] = []
            if running is not None and watcher is not None:
                broken = watcher.poll_arms(guard_test(running[0]), running[1].rollout)
            controller.look_if_due(is_broken=bool(broken))
        except EndcapError as error:
            return {"ab": error}
        return {}

    def _make_part(self, recommender: str) -> tuple[AbController, PollingArmsWatcher | None]:
        watcher = self._make_watcher(recommender)
        controller = AbController(
            self._store,
            recommender,
            self._registry_uri,
            watcher=watcher,
            notify=self._notify,
            read_clock=self._read_clock,
            intake=self._intake,
        )
        return controller, watcher
