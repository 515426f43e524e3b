"""A small API server that knows InferenceServices alone: lists, watches that drop or have forgotten, absence."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.variants import settings_to_annotations

Json = dict[str, Any]
PATH = "/apis/serving.kserve.io/v1beta1/namespaces/shop/inferenceservices"


class ApiServer:
    """Listens on one port of loopback, also after it was away."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[Json] = []
        self._there: dict[str, Json] = {}
        self._version = 1
        self._forgotten = 0
        self._lease = 0
        """Watches of an older one end."""
        self.port = 0
        self._start()

    def kubeconfig(self, file: Path) -> Path:
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [context]}
        file.write_text(json.dumps({**config, "clusters": [cluster], "users": [{"name": "u", "user": {}}]}))
        return file

    def put(self, thing: Json) -> None:
        with self._changed:
            name = thing["metadata"]["name"]
            kind = "MODIFIED" if name in self._there else "ADDED"
            self._there[name] = thing
            self._note(kind, thing)

    def delete(self, name: str) -> None:
        with self._changed:
            self._note("DELETED", self._there.pop(name))

    def drop_watches(self, *, forget: bool = False) -> None:
        """End every watch; `forget`: who resumes where it was is answered 410."""
        with self._changed:
            self._lease += 1
            self._forgotten = self._version if forget else self._forgotten
            self._changed.notify_all()

    def leave(self) -> None:
        self.drop_watches()
        self._server.shutdown()
        self._server.server_close()

    def come_back(self) -> None:
        self._start()

    def _start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _note(self, kind: str, thing: Json) -> None:
        self._version += 1
        thing["metadata"] |= {"resourceVersion": str(self._version), "uid": thing["metadata"]["name"]}
        self._events.append({"type": kind, "object": json.loads(json.dumps(thing))})
        self._changed.notify_all()

    def list(self) -> Json:
        with self._changed:
            return {"metadata": {"resourceVersion": str(self._version)}, "items": list(self._there.values())}

    def next_events(self, after: int, lease: int | None) -> tuple[list[Json], int] | None:
        """Events after a version, when there are some, and whose watch it is; None where the watch ends."""
        with self._changed:
            lease = self._lease if lease is None else lease
            if after < self._forgotten:
                gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                return ([{"type": "ERROR", "object": gone}], lease)
            while True:
                if lease != self._lease:
                    return None
                events = [one for one in self._events if int(one["object"]["metadata"]["resourceVersion"]) > after]
                if events:
                    return events, lease
                self._changed.wait(1.0)


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            query = parse_qs(asked.query)
            assert asked.path == PATH
            assert query["labelSelector"] == ["app.kubernetes.io/managed-by=endcap"]
            if query.get("watch") == ["true"]:
                self._watch(int(query["resourceVersion"][0]))
                return
            body = json.dumps({"kind": "InferenceServiceList", **server.list()}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _watch(self, version: int) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            lease: int | None = None
            while found := server.next_events(version, lease):
                events, lease = found
                for event in events:
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                    version = (
                        int(event["object"]["metadata"].get("resourceVersion", 0))
                        if "metadata" in event["object"]
                        else version
                    )
                if events[0]["type"] == "ERROR":
                    break
            # Without the last chunk: the connection drops.

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def shadow_service(name: str, share: float, *, ready: bool = True, port: int = 80) -> Json:
    """As KServe keeps it in Standard mode: version 3, which gets copies of a share of the requests."""
    return side_service(name, "shadow", share, ready=ready, port=port)


def side_service(name: str, role: str, share: float, *, version: str = "3", ready: bool = True, port: int = 80) -> Json:
    """As KServe keeps it in Standard mode: a version beside the recommender's own."""
    service = inference_service(f"{name}--{role}", port=port)
    service["metadata"]["annotations"] = {f"endcap.dev/{role}-of": name, f"endcap.dev/{role}-share": str(share)}
    del service["spec"]["predictor"]["name"]
    service["spec"]["predictor"]["annotations"] = {"endcap.dev/version": version}
    service["status"]["conditions"] = [{"type": "PredictorReady", "status": str(ready)}]
    return service


def inference_service(
    name: str,
    share: float = 0.0,
    *,
    salt: str = "5a17",
    canary_ready: bool = True,
    port: int = 80,
    terms: GatewaySettings | None = None,
) -> Json:
    """As KServe keeps it in Standard mode: version 1 stable and, with a share, version 2 its canary."""
    predictor = {"model": {"modelFormat": {"name": "endcap"}}}
    said = {
        "endcap.dev/salt": salt,
        "endcap.dev/stable-version": "1",
        **(settings_to_annotations(terms) if terms else {}),
    }
    spec: Json = {"predictor": {"name": "v1", **predictor}}
    status: Json = {
        "deploymentMode": "Standard",
        "address": {"url": f"http://{name}-v1-predictor.shop.svc:{port}"},
        "conditions": [{"type": "PredictorReady", "status": "True"}],
    }
    if share:
        said |= {"endcap.dev/canary-version": "2", "endcap.dev/canary-share": str(share)}
        spec["canary"] = [{"predictor": {"name": "v2", **predictor}, "trafficPercent": round(100 * share)}]
        status["canaryStatuses"] = [{"name": "v2", "ready": canary_ready}]
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app.kubernetes.io/managed-by": "endcap"},
            "annotations": said,
        },
        "spec": spec,
        "status": status,
    }
