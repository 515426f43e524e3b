"""Stands in for an ingress implementation of Knative's: ``python -m tests.cluster.knative_ingress_stand_in KUBECONFIG``

Knative's route controller writes an ``Ingress`` (networking.internal.knative.dev) for every Route and waits until some
implementation (Kourier, Istio, Contour; none is here) says in its status that the data path follows. This says so at
once, of every Ingress of its class, and moves no byte.

So the tests may claim what Knative's own controllers decide and write down: revisions, the Route's ``status.traffic``
with its tags and addresses, readiness. They claim nothing about a request's way: no address of a Route is ever called.
"""

from __future__ import annotations

import datetime
import sys
import time
from typing import Any

CLASS = "stand-in.ingress.networking.knative.dev"
_GROUP = ("networking.internal.knative.dev", "v1alpha1")
_CONDITIONS = ("Ready", "LoadBalancerReady", "NetworkConfigured")
_PAUSE = 0.5
"""Seconds until the next attempt when the API server does not answer."""


def status(ingress: dict[str, Any]) -> dict[str, Any]:
    """What an implementation writes once its data path follows this generation of the Ingress."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    leads_to = {"ingress": [{"domainInternal": "no-data-path.knative-serving.svc.cluster.local"}]}
    return {
        "observedGeneration": ingress["metadata"]["generation"],
        "conditions": [{"type": condition, "status": "True", "lastTransitionTime": now} for condition in _CONDITIONS],
        "publicLoadBalancer": leads_to,
        "privateLoadBalancer": leads_to,
    }


def main(kubeconfig: str) -> None:
    import urllib3
    from kubernetes import client, config, watch

    api = client.CustomObjectsApi(config.new_client_from_config(kubeconfig))
    while True:
        try:
            # Without a resource version the watch begins with every Ingress that there is.
            for event in watch.Watch().stream(
                api.list_cluster_custom_object, *_GROUP, "ingresses", timeout_seconds=300
            ):
                _mark(api, event)
        except (client.ApiException, urllib3.exceptions.HTTPError) as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            time.sleep(_PAUSE)


def _mark(api: Any, event: dict[str, Any]) -> None:
    ingress = event["object"]
    meta = ingress["metadata"]
    ours = meta.get("annotations", {}).get("networking.knative.dev/ingress.class") == CLASS
    done = ingress.get("status", {}).get("observedGeneration") == meta["generation"]
    if event["type"] == "DELETED" or not ours or done or "deletionTimestamp" in meta:
        return
    print(f"{meta['namespace']}/{meta['name']} generation {meta['generation']}", flush=True)
    body = {"status": status(ingress)}
    api.patch_namespaced_custom_object_status(*_GROUP, meta["namespace"], "ingresses", meta["name"], body)


if __name__ == "__main__":
    main(sys.argv[1])
