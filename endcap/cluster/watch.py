"""Following objects: a watch that goes on after a dropped connection, and after the server forgot where it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from endcap.cluster.api_errors import VersionExpiredError
from endcap.cluster.client import Cluster
from endcap.cluster.kinds import ObjectKind
from endcap.cluster.retry import TransientFailure

Json = dict[str, Any]
PAUSE = 1.0
"""Seconds before a dropped watch is begun again."""


def watch(
    cluster: Cluster,
    kind: ObjectKind,
    namespace: str | None,
    *,
    labels: str = "",
    fields: str = "",
    seconds: float = 300.0,
) -> Iterator[list[Json]]:
    """The matching objects now, and again whenever one changed, for `seconds`.

    A connection that drops is begun again where it was; when the server has forgotten that point (410), or said
    something that cannot be read, everything is listed anew. Raises what `Cluster.list_objects` raises.
    """
    end = time.monotonic() + seconds
    objects: dict[str, Json] = {}
    version = ""
    while (left := end - time.monotonic()) > 0:
        if not version:
            listed, version = cluster.list_with_version(kind, namespace, labels, fields)
            objects = {item["metadata"]["uid"]: item for item in listed}
            yield list(objects.values())
        query = {"labelSelector": labels, "fieldSelector": fields, "resourceVersion": version}
        try:
            for event in cluster.stream_events(kind, namespace, query, left):
                if event["type"] == "ERROR":
                    version = ""
                    break
                version = event["object"]["metadata"]["resourceVersion"]
                if _apply_event(event, objects):
                    yield list(objects.values())
        except VersionExpiredError:
            version = ""
        except TransientFailure:
            time.sleep(min(PAUSE, max(0.0, end - time.monotonic())))


def _apply_event(event: Json, objects: dict[str, Json]) -> bool:
    """Note what an event says; whether it says anything but the time."""
    item = event["object"]
    if event["type"] == "BOOKMARK":
        return False
    if event["type"] == "DELETED":
        objects.pop(item["metadata"]["uid"], None)
    else:
        objects[item["metadata"]["uid"]] = item
    return True
