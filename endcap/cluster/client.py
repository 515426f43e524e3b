"""One cluster: get, list, apply, delete and watch objects, which are plain dictionaries.

This uses the lowest level of the official client, for its authentication and TLS. It does not use the dynamic client:
that first asks for every API group, and keeps the answers in a file that all users of the machine share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from endcap.client_faults import explain_tls_failure
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
from endcap.retries import RetryLimits

MANAGER = "endcap"
"""Owner of the fields that are applied."""
TIMEOUT = (5, 30)
"""Seconds to connect, and between two bytes of an answer."""
PAGE = 500
Json = dict[str, Any]


class Cluster:
    """The API server of one cluster.

    Parameters
    ----------
    api
        The official client's `ApiClient`.
    host
        Address of the API server, for messages.
    patience
        How long each call is tried again while the API server restarts or is busy.
    """

    def __init__(self, api: Any, host: str, patience: RetryLimits | None = None) -> None:
        self.host = host
        self._api = api
        self._patience = patience or RetryLimits()

    def get(self, kind: ObjectKind, name: str, namespace: str | None = None) -> Json:
        """Read an object.

        Parameters
        ----------
        kind, name, namespace
            The object; `namespace` None: the kind has no namespaces.

        Returns
        -------
        dict
            The object.

        Raises
        ------
        AbsentError
            There is no object of this name.
        KindAbsentError, ForbiddenError, UnreachableError
            The cluster lacks the kind, refuses, or does not answer.
        """
        return self._request("GET", ApiCall("get", kind, namespace, name))

    def find(self, kind: ObjectKind, name: str, namespace: str | None = None) -> Json | None:
        """Read an object; None if there is none of this name."""
        try:
            return self.get(kind, name, namespace)
        except AbsentError:
            return None

    def list_objects(
        self, kind: ObjectKind, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> list[Json]:
        """List the objects that match the selectors.

        Parameters
        ----------
        kind
            The kind of the objects.
        namespace
            None: all namespaces.
        labels, fields
            Selectors in Kubernetes' syntax, such as `app=shop`. Empty: all objects.

        Returns
        -------
        list of dict
            All pages of the list.

        Raises
        ------
        KindAbsentError, ForbiddenError, UnreachableError
            The cluster lacks the kind, refuses, or does not answer.
        """
        return self.list_with_version(kind, namespace, labels, fields)[0]

    def list_with_version(
        self, kind: ObjectKind, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> tuple[list[Json], str]:
        """List objects, and return the resource version to watch from as well."""
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(PAGE)}
        objects: list[Json] = []
        while True:
            page = self._request("GET", ApiCall("list", kind, namespace), query)
            objects += page.get("items") or []
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return objects, page["metadata"].get("resourceVersion", "")

    def create(self, thing: Json) -> Json:
        """Create an object, which the account needs no other right for.

        Parameters
        ----------
        thing
            The object.

        Returns
        -------
        dict
            The object as it then is.

        Raises
        ------
        StaleError
            There is an object of this name already.
        ForbiddenError, KindAbsentError, UnreachableError
            The cluster refuses, lacks the kind, or does not answer.
        """
        kind, metadata = find_object_kind(thing), thing["metadata"]
        call = ApiCall("create", kind, metadata.get("namespace"), metadata["name"])
        query = {"fieldManager": MANAGER}
        return self._send("POST", kind.path(call.namespace), call, query, thing, "application/json")

    def apply_status(self, thing: Json) -> Json:
        """Apply an object's status, which is a subresource, and own the fields that it sets. Others' are taken.

        Parameters
        ----------
        thing
            Kind, metadata and `status` of the object.

        Returns
        -------
        dict
            The object as it then is.

        Raises
        ------
        AbsentError
            There is no object of this name.
        ForbiddenError, KindAbsentError, UnreachableError
            The cluster refuses, lacks the kind, or does not answer.
        """
        kind, metadata = find_object_kind(thing), thing["metadata"]
        call = ApiCall("patch", kind, metadata.get("namespace"), metadata["name"])
        path = f"{kind.path(call.namespace, call.name)}/status"
        query = {"fieldManager": MANAGER, "force": "true"}
        return self._send("PATCH", path, call, query, thing, "application/apply-patch+yaml")

    def apply(self, thing: Json, *, force: bool = False, dry_run: bool = False) -> Json:
        """Apply an object on the server's side (server-side apply), and own the fields that it sets.

        Parameters
        ----------
        thing
            The object. If it has `metadata.resourceVersion`, it is applied only at that version.
        force
            Take fields that others own.
        dry_run
            Change nothing.

        Returns
        -------
        dict
            The object as it then is, or would be.

        Raises
        ------
        StaleError
            The object is at another version.
        ConflictError
            Others own fields, and `force` is not set. The error names them.
        ForbiddenError, KindAbsentError, UnreachableError
            The cluster refuses, lacks the kind, or does not answer.
        """
        metadata = thing["metadata"]
        call = ApiCall("patch", find_object_kind(thing), metadata.get("namespace"), metadata["name"])
        query = {"fieldManager": MANAGER, "force": str(force).lower(), "dryRun": "All" if dry_run else ""}
        return self._request("PATCH", call, query, thing, "application/apply-patch+yaml")

    def annotate(
        self, kind: ObjectKind, name: str, namespace: str, annotations: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Set annotations of an object at once, whatever else is done to it meanwhile, and leave all its other fields.

        The account needs the right to patch, and no other: one JSON patch tests the labels and sets the annotations.

        Parameters
        ----------
        kind, name, namespace
            The object. It has annotations already.
        annotations
            Values by key. Whoever owned them owns them no more.
        labels
            Labels that the object must have, or nothing is changed.

        Raises
        ------
        AbsentError
            There is no object of this name.
        ClusterError
            The object lacks the labels, or has no annotations (``cluster.refused``).
        ForbiddenError, KindAbsentError, UnreachableError
            The cluster refuses, lacks the kind, or does not answer.
        """
        steps = [
            {"op": operation, "path": f"/metadata/{field}/{key.replace('~', '~0').replace('/', '~1')}", "value": value}
            for operation, field, pairs in (("test", "labels", labels), ("add", "annotations", annotations))
            for key, value in pairs.items()
        ]
        call = ApiCall("patch", kind, namespace, name)
        self._request("PATCH", call, {"fieldManager": MANAGER}, steps, "application/json-patch+json")

    def delete(self, kind: ObjectKind, name: str, namespace: str | None = None, uid: str | None = None) -> bool:
        """Delete an object with all that it owns.

        Parameters
        ----------
        kind, name, namespace
            The object.
        uid
            Delete it only if it has this uid.

        Returns
        -------
        bool
            False if there was no such object.

        Raises
        ------
        StaleError
            The object of this name has another uid.
        KindAbsentError, ForbiddenError, UnreachableError
            The cluster lacks the kind, refuses, or does not answer.
        """
        body: Json = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._request("DELETE", ApiCall("delete", kind, namespace, name), {}, body, "application/json")
        except AbsentError:
            return False
        return True

    def schema(self, group_version: str) -> Json:
        """Read the OpenAPI v3 schemas of an API group's version, by name; empty if the cluster does not have it.

        Every user whom the API server knows may read them.
        """
        call = ApiCall("get", ObjectKind(group_version, "schema", "", namespaced=False))
        try:
            document = self._send("GET", f"/openapi/v3/apis/{group_version}", call, {}, None, None)
        except (AbsentError, KindAbsentError):
            return {}
        return (document.get("components") or {}).get("schemas") or {}

    def stream_events(self, kind: ObjectKind, namespace: str | None, query: Json, seconds: float) -> Iterator[Json]:
        """Yield one watch request's events until the server ends it. Raises TransientFailure if it drops."""
        import urllib3

        query = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(max(1, int(seconds)))}
        call = ApiCall("watch", kind, namespace)
        response = self._call("GET", kind.path(namespace), query, None, None, call, (TIMEOUT[0], seconds + 5))
        remainder = b""
        try:
            for chunk in response.stream(2**16, decode_content=False):
                *lines, remainder = (remainder + chunk).split(b"\n")
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
        """Send one request. Raises TransientFailure, or the error that the refusal means."""
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
        reason = explain_tls_failure(error)
        return TransientFailure(words) if reason is None else no_tls_error(reason, self.host)


def _text(body: Any) -> str:
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
