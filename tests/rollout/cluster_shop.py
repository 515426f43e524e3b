"""The shop in a cluster: its ModelRollouts, its InferenceServices, and the loop that drives them, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from endcap.deploy import Target, manifests, predictor_manifests
from endcap.rollout.cluster_loop import ClusterRollouts
from endcap.rollout.messages import Notify
from endcap.rollout.resource import make_resource
from endcap.store import Store
from tests.rollout.fake_api import NAMESPACE, FakeApi
from tests.rollout.shop import POLICY, Shop

ALONE = {**POLICY, "guard": {"previous_share": 0.0}}
Json = dict[str, Any]


class ClusterShop(Shop):
    """The shop, with its rollouts driven in a cluster."""

    def __init__(self, store: Store, policy: Json | None = None) -> None:
        super().__init__(store, policy or ALONE, serving={"fallback": "refuse", "kubernetes": {"mode": "Standard"}})
        self.api = FakeApi(lambda: self.now)
        self.loop = self.start_loop()

    def start_loop(self, store: Store | None = None, notify: Sequence[Notify] = (), **options: Any) -> ClusterRollouts:
        """A new process."""
        return ClusterRollouts(
            self.api.connect(),
            NAMESPACE,
            store or self.store,
            None,
            "release",
            notify=[self.messages.append, *notify],
            read_clock=lambda: self.now,
            **options,
        )

    def ask(self, version: str, **spec: Any) -> None:
        resource = make_resource("shoes", version, NAMESPACE)
        self.api.add("modelrollouts", {**resource, "spec": {**resource["spec"], **spec}})

    def want(self, version: str, **spec: Any) -> None:
        """Edit a resource's spec."""
        self.api.edit("modelrollouts", f"shoes-{version}", lambda thing: thing["spec"].update(spec))

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            for report in self.loop.tick():
                assert dict(report.errors) == {}
            self.now += timedelta(seconds=2)

    def status(self, version: str) -> Json:
        return dict(self.api.get("modelrollouts", f"shoes-{version}")["status"])

    def conditions(self, version: str) -> dict[str, tuple[str, str]]:
        return {one["type"]: (one["status"], one["reason"]) for one in self.status(version)["conditions"]}

    @property
    def served(self) -> tuple[str, str, float]:
        """Stable version, canary, share, as gateways read them."""
        variants = self.api.variants
        assert variants is not None
        assert variants.stable is not None
        canary = variants.canary.version if variants.canary is not None else ""
        return variants.stable.version, canary, variants.share

    def events(self) -> list[str]:
        return [thing["reason"] for (plural, _), thing in self.api.objects.items() if plural == "events"]


def serve_from_a_bucket(patch: pytest.MonkeyPatch) -> None:
    """The store of these tests is a folder, which pods could not read: their manifests name a bucket instead."""
    original = predictor_manifests.render_model

    def render(serving: Any, pod: Any, target: Target, *name: str) -> Json:
        return original(serving, pod, target.model_copy(update={"package": f"s3://shop/{target.version}"}), *name)

    for module in (predictor_manifests, manifests):
        patch.setattr(module, "render_model", render)
