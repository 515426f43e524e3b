"""One cluster: get, list, apply, delete and watch objects, as dictionaries.

On the official client's lowest level, for its authentication and TLS. Its dynamic layer is not used: it asks for every
API group first, and keeps the answers in a file that all users of the machine share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from endcap.causes import tls_trouble
from endcap.cluster.api_errors import (
    AbsentError,
    ApiCall,
    ApiResponse,
    KindAbsentError,
    no_api_error,
    no_tls_error,
    translate_refusal,
)
from endcap.cluster.kinds import ObjectKind, find_object_kind
from endcap.cluster.retry import TRANSIENT_STATUSES, TransientFailure, call_with_retries, read_transient_failure
from endcap.waiting import Patience

MANAGER = "endcap"
"""Owner of the fields that are applied."""
TIMEOUT = (5, 30)
"""Seconds to connect, and between two bytes of an answer."""
PAGE = 500
Json = dict[str, Any]


class Cluster:
    """Every call goes on through restarts of the API server, for `patience`."""

    def __init__(self, api: Any, host: str, patience: Patience | None = None) -> None:
        self.host = host
        self._api = api
        self._patience = patience or Patience()

    def get(self, kind: ObjectKind, name: str, namespace: str | None = None) -> Json:
        """Raises AbsentError, KindAbsentError, ForbiddenError."""
        return self._request("GET", ApiCall("get", kind, namespace, name))

    def find(self, kind: ObjectKind, name: str, namespace: str | None = None) -> Json | None:
        """The object, or None where there is none of this name."""
        try:
            return self.get(kind, name, namespace)
        except AbsentError:
            return None

    def list_objects(
        self, kind: ObjectKind, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> list[Json]:
        """All that match the selectors; without a namespace: of all namespaces."""
        return self.list_with_version(kind, namespace, labels, fields)[0]

    def list_with_version(
        self, kind: ObjectKind, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> tuple[list[Json], str]:
        """The same, with the version to watch from."""
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(PAGE)}
        objects: list[Json] = []
        while True:
            page = self._request("GET", ApiCall("list", kind, namespace), query)
            objects += page.get("items") or []
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return objects, page["metadata"].get("resourceVersion", "")

    def apply(self, thing: Json, *, force: bool = False, dry_run: bool = False) -> Json:
        """Server-side apply: make the object so, and own these fields; returns it as it is (or would be) then.

        With metadata.resourceVersion: only if it is still at that version, StaleError otherwise. force: take fields
        that others hold; without it, ConflictError names them.
        """
        metadata = thing["metadata"]
        call = ApiCall("patch", find_object_kind(thing), metadata.get("namespace"), metadata["name"])
        query = {"fieldManager": MANAGER, "force": str(force).lower(), "dryRun": "All" if dry_run else ""}
        return self._request("PATCH", call, query, thing, "application/apply-patch+yaml")

    def delete(self, kind: ObjectKind, name: str, namespace: str | None = None, uid: str | None = None) -> bool:
        """Delete it, with what it owns; with a uid, only that one. False where there was none."""
        body: Json = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._request("DELETE", ApiCall("delete", kind, namespace, name), {}, body, "application/json")
        except AbsentError:
            return False
        return True

    def schema(self, group_version: str) -> Json:
        """The OpenAPI v3 schemas of a group's version by name; empty where the cluster does not know it.

        Everyone who is known to the API server may read it.
        """
        call = ApiCall("get", ObjectKind(group_version, "schema", "", namespaced=False))
        try:
            document = self._send("GET", f"/openapi/v3/apis/{group_version}", call, {}, None, None)
        except (AbsentError, KindAbsentError):
            return {}
        return (document.get("components") or {}).get("schemas") or {}

    def stream_events(self, kind: ObjectKind, namespace: str | None, query: Json, seconds: float) -> Iterator[Json]:
        """One watch request's events, until the server ends it. Raises Passing where the connection drops."""
        import urllib3

        query = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(max(1, int(seconds)))}
        call = ApiCall("watch", kind, namespace)
        response = self._call("GET", kind.path(namespace), query, None, None, call, (TIMEOUT[0], seconds + 5))
        rest = b""
        try:
            for chunk in response.stream(2**16, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise TransientFailure(str(error)) from None
        finally:
            response.release_conn()

    def _request(
        self, method: str, call: ApiCall, query: Json | None = None, body: Any = None, content: str | None = None
    ) -> Json:
        path = call.kind.path(call.namespace, call.name)
        return self._send(method, path, call, query or {}, body, content)

    def _send(self, method: str, path: str, call: ApiCall, query: Json, body: Any, content: str | None) -> Json:
        def attempt() -> Json:
            response = self._call(method, path, query, body, content, call, TIMEOUT)
            try:
                document: Json = json.loads(response.data)
            except ValueError:
                raise no_api_error(_text(response.data), self.host) from None
            return document

        return call_with_retries(attempt, call, self.host, self._patience)

    def _call(
        self, method: str, path: str, query: Json, body: Any, content: str | None, call: ApiCall, timeout: Any
    ) -> Any:
        """One request; a refusal is raised as Passing or as what it means."""
        import urllib3
        from kubernetes.client.exceptions import ApiException

        words = urlencode({key: value for key, value in query.items() if value})
        headers = {"Accept": "application/json"} | ({"Content-Type": content} if content else {})
        try:
            return self._api.call_api(
                f"{path}?{words}" if words else path,
                method,
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=timeout,
            )
        except ApiException as error:
            if error.status:
                response = ApiResponse(error.status, _text(error.body), dict(error.headers or {}))
                raise (
                    read_transient_failure(response)
                    if error.status in TRANSIENT_STATUSES
                    else translate_refusal(response, call)
                ) from None
            raise self._connection_error(error, str(error.reason)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._connection_error(error, f"{type(error).__name__}: {error}") from None

    def _connection_error(self, error: Exception, words: str) -> Exception:
        reason = tls_trouble(error)
        return TransientFailure(words) if reason is None else no_tls_error(reason, self.host)


def _text(body: Any) -> str:
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
