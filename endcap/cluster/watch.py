"""Follow objects by a watch that survives dropped connections and expired resource versions."""

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
"""Seconds to wait before a dropped watch starts again."""


def watch(
    cluster: Cluster,
    kind: ObjectKind,
    namespace: str | None,
    *,
    labels: str = "",
    fields: str = "",
    seconds: float = 300.0,
) -> Iterator[list[Json]]:
    """Yield the matching objects now, and again after each change.

    Parameters
    ----------
    cluster, kind, namespace
        What to watch; `namespace` None: all namespaces.
    labels, fields
        Selectors.
    seconds
        How long to watch.

    Yields
    ------
    list of dict
        All matching objects.

    Raises
    ------
    ForbiddenError, KindAbsentError, UnreachableError
        As `Cluster.list_objects` raises them.

    Notes
    -----
    After a dropped connection the watch resumes at the last resource version. If the server no longer has that version
    (410) or sends an error event, the objects are listed again.
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
    """Apply an event to the objects. Returns False for a bookmark, which changes only the resource version."""
    item = event["object"]
    if event["type"] == "BOOKMARK":
        return False
    if event["type"] == "DELETED":
        objects.pop(item["metadata"]["uid"], None)
    else:
        objects[item["metadata"]["uid"]] = item
    return True
