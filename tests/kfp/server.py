"""A server on loopback that speaks KFP's v2beta1 API, as far as runs are submitted and followed.

What it is asked and what it answers are held against the models that KFP generates from its published OpenAPI: a key
that they do not know fails. Packages are parsed strictly, and a run's parameters are held against the package's, as
KFP's API server does. It runs nothing: a test says what a run's tasks look like, one look after the other.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

Json = dict[str, Any]
Scene = Callable[[str], Json]
BASE = "/apis/v2beta1/"


class RefusedError(Exception):
    """An answer of an error status, with KFP's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def as_model(name: str, value: Json) -> Json:
    """The value, if KFP's model of that name knows all its keys, at any depth. Raises RefusedError."""
    model = getattr(kfp_server_api, name)
    for key, one in value.items():
        attribute = next((own for own, wire in model.attribute_map.items() if wire == key), None)
        if attribute is None:
            raise RefusedError(400, f'{name}: unknown field "{key}"')
        _as_type(model.openapi_types[attribute], one, f"{name}.{key}")
    return value


def _as_type(kind: str, value: Any, at: str) -> None:
    plain = {"str": str, "int": int, "bool": bool, "float": (int, float), "datetime": str, "object": object}
    inner = re.fullmatch(r"(?:list\[|dict\(str, )(.+)[\])]", kind)
    if inner and kind.startswith("list"):
        for one in value:
            _as_type(inner[1], one, at)
    elif inner:
        for one in value.values():
            _as_type(inner[1], one, at)
    elif kind in plain:
        if not isinstance(value, plain[kind]):  # type: ignore[arg-type]
            raise RefusedError(400, f"{at}: {value!r} is not of type {kind}")
    elif hasattr(getattr(kfp_server_api, kind), "allowable_values"):
        if value not in getattr(kfp_server_api, kind).allowable_values:
            raise RefusedError(400, f"{at}: {value!r} is none of its values")
    else:
        as_model(kind, value)


class Kfp:
    """The server's state, and what tests set: token, version, trouble, and what runs go through."""

    def __init__(self) -> None:
        self.experiments: list[Json] = []
        self.pipelines: list[Json] = []
        self.versions: list[Json] = []
        self.runs: list[Json] = []
        self.asked: list[str] = []
        self.token: str | None = None
        self.before_2_17 = False
        self.trouble: list[tuple[str, int]] = []
        """(part of a request, status): the next request that has the part is answered so; 0: not at all."""
        self.lost: list[str] = []
        """Part of a request that is carried out, and whose answer is lost."""
        self.scenes: list[Scene] = []
        """What a run looks like, one look after the other; the last one stays."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Kfp:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> Json:
        """The answer to a request. Raises RefusedError."""
        where = f"{method} {path.removeprefix(BASE)}"
        if where == "GET healthz":
            return as_model("V2beta1GetHealthzResponse", {"multi_user": False})
        for pattern, handle in _ROUTES:
            match = re.fullmatch(pattern, where)
            if match:
                return handle(self, *match.groups(), query=query, body=_body(body, kind))
        raise RefusedError(404, f"no {where}")

    def create_experiment(self, query: dict[str, str], body: Json) -> Json:
        as_model("V2beta1Experiment", body)
        _needs(body, "display_name")
        made = {**body, "experiment_id": _id(), "created_at": _now(), "storage_state": "AVAILABLE"}
        self.experiments.append(made)
        return as_model("V2beta1Experiment", made)

    def list_experiments(self, query: dict[str, str], body: Json) -> Json:
        return as_model("V2beta1ListExperimentsResponse", {"experiments": _filtered(self.experiments, query)})

    def create_pipeline(self, query: dict[str, str], body: Json) -> Json:
        as_model("V2beta1Pipeline", body)
        _needs(body, "display_name")
        made = {**body, "pipeline_id": _id(), "created_at": _now()}
        self.pipelines.append(made)
        return as_model("V2beta1Pipeline", made)

    def list_pipelines(self, query: dict[str, str], body: Json) -> Json:
        return as_model("V2beta1ListPipelinesResponse", {"pipelines": _filtered(self.pipelines, query)})

    def list_versions(self, pipeline: str, query: dict[str, str], body: Json) -> Json:
        own = [one for one in self.versions if one["pipeline_id"] == pipeline]
        return as_model("V2beta1ListPipelineVersionsResponse", {"pipeline_versions": _filtered(own, query)})

    def upload_version(self, query: dict[str, str], body: bytes) -> Json:
        if query.keys() - {"name", "display_name", "pipelineid", "description", "tags"}:
            raise RefusedError(400, f"unknown parameters {sorted(query)}")
        spec = self.package(list(yaml.safe_load_all(body)))
        if query["pipelineid"] not in {one["pipeline_id"] for one in self.pipelines}:
            raise RefusedError(404, f"no pipeline {query['pipelineid']}")
        made = {
            "pipeline_id": query["pipelineid"],
            "pipeline_version_id": _id(),
            "display_name": query["name"],
            "created_at": _now(),
            "pipeline_spec": spec,
        }
        self.versions.append(made)
        return as_model("V2beta1PipelineVersion", made)

    def package(self, documents: list[Json]) -> Json:
        """A package's documents as KFP keeps them. Raises RefusedError where KFP's protobufs do not know a key."""
        if len(documents) == 1 and "pipeline_spec" in documents[0]:
            documents = [documents[0]["pipeline_spec"], documents[0].get("platform_spec", {})]
        try:
            json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
            for platform in documents[1:]:
                json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as error:
            raise RefusedError(400, f"Failed to parse the package: {error}") from None
        if self.before_2_17 and "activeDeadlineSeconds" in json.dumps(documents[1:]).partition('"pipelineConfig"')[2]:
            return {
                "pipeline_spec": documents[0]
            }  # as 2.16.1 does with settings that it does not know: all are dropped
        return {"pipeline_spec": documents[0], "platform_spec": (documents[1:] or [{}])[0]}

    def create_run(self, query: dict[str, str], body: Json) -> Json:
        as_model("V2beta1Run", body)
        _needs(body, "display_name")
        reference, own = body.get("pipeline_version_reference"), body.get("pipeline_spec")
        if (reference is None) == (own is None):
            raise RefusedError(400, "exactly one of pipeline_spec and pipeline_version_reference")
        if own is not None:
            spec = self.package([own])
        else:
            _needs(reference, "pipeline_id", "pipeline_version_id")
            wanted = reference["pipeline_version_id"]
            spec = next(one["pipeline_spec"] for one in self.versions if one["pipeline_version_id"] == wanted)
        self.parameters(spec["pipeline_spec"], body.get("runtime_config", {}).get("parameters") or {})
        if body.get("experiment_id") not in {one["experiment_id"] for one in self.experiments}:
            raise RefusedError(404, "no such experiment")
        made = {**body, "run_id": _id(), "created_at": _now(), "state": "PENDING", "storage_state": "AVAILABLE"}
        self.runs.append(made)
        return as_model("V2beta1Run", made)

    def parameters(self, spec: Json, given: Json) -> None:
        """As KFP: no parameter that the package does not define, and none missing that has no default."""
        defined = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        surplus = given.keys() - defined.keys()
        missing = {key for key, one in defined.items() if key not in given and not one.get("isOptional")}
        if surplus or missing:
            raise RefusedError(400, f"parameters: unknown {sorted(surplus)}, missing {sorted(missing)}")

    def get_run(self, run: str, query: dict[str, str], body: Json) -> Json:
        made = self._run(run)
        if self.scenes and made["state"] not in ("CANCELED", "FAILED", "SUCCEEDED"):
            made.update(self.scenes[0](run))
            if len(self.scenes) > 1:
                del self.scenes[0]
        return as_model("V2beta1Run", made)

    def list_runs(self, query: dict[str, str], body: Json) -> Json:
        own = [one for one in self.runs if one["experiment_id"] == query.get("experiment_id", one["experiment_id"])]
        return as_model("V2beta1ListRunsResponse", {"runs": _filtered(own, query)})

    def terminate_run(self, run: str, query: dict[str, str], body: Json) -> Json:
        self._run(run)["state"] = "CANCELED"
        return {}

    def _run(self, run: str) -> Json:
        for one in self.runs:
            if one["run_id"] == run:
                return one
        raise RefusedError(404, f"Run {run} not found")


_ROUTES: list[tuple[str, Callable[..., Json]]] = [
    ("POST experiments", Kfp.create_experiment),
    ("GET experiments", Kfp.list_experiments),
    ("POST pipelines", Kfp.create_pipeline),
    ("GET pipelines", Kfp.list_pipelines),
    ("GET pipelines/([^/]+)/versions", Kfp.list_versions),
    ("POST pipelines/upload_version", Kfp.upload_version),
    ("POST runs", Kfp.create_run),
    ("GET runs/([^/]+)", Kfp.get_run),
    ("GET runs", Kfp.list_runs),
    ("POST runs/([^/:]+):terminate", Kfp.terminate_run),
]


def scene(state: str, tasks: dict[str, str], errors: dict[str, str] | None = None) -> Scene:
    """What a run looks like: its state, the state of each task by its name, and what went wrong in a task's pod.

    As KFP lists Argo's nodes: a driver and an executor beside each task.
    """

    def look(run: str) -> Json:
        details: list[Json] = []
        for number, (name, task_state) in enumerate(tasks.items()):
            ended = {"end_time": f"2026-03-02T10:{number:02}:42Z"} if task_state not in ("RUNNING", "PENDING") else {}
            times = {"create_time": f"2026-03-02T10:{number:02}:00Z", "start_time": f"2026-03-02T10:{number:02}:00Z"}
            ids = {part: f"{name}-{part}-id" for part in ("driver", "task", "pod")}
            details.append({"display_name": f"{name}-driver", "task_id": ids["driver"], "state": "SUCCEEDED", **times})
            child = [{"pod_name": ids["pod"]}]
            own = {"display_name": name, "task_id": ids["task"], "state": task_state, "child_tasks": child}
            details.append(own | times | ended)
            error = (errors or {}).get(name)
            pod = {"display_name": "executor", "task_id": ids["pod"], "state": task_state, **times, **ended}
            details.append(pod | ({"error": {"code": 2, "message": error}} if error else {}))
        for one in details:
            one["run_id"] = run
        return {"state": state, "run_details": {"task_details": details}}

    return look


def _handler(kfp: Kfp) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            where = f"{self.command} {parts.path}"
            kfp.asked.append(where)
            try:
                if kfp.token and self.headers.get("authorization") != f"Bearer {kfp.token}":
                    raise RefusedError(401, "Unauthenticated: the request has no valid token")
                for one in kfp.trouble:
                    if one[0] in where:
                        kfp.trouble.remove(one)
                        if one[1] == 0:
                            self._drop()
                            return
                        raise RefusedError(one[1], "the server is being restarted")
                query = dict(urllib.parse.parse_qsl(parts.query))
                answer, status = (
                    kfp.answer(self.command, parts.path, query, body, self.headers.get("Content-Type", "")),
                    200,
                )
                for part in kfp.lost:
                    if part in where:
                        kfp.lost.remove(part)
                        self._drop()
                        return
            except RefusedError as error:
                answer, status = {"code": 3, "message": error.message}, error.status
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _drop(self) -> None:
            """Close the connection without an answer."""
            self.close_connection = True
            self.connection.close()

        def log_message(self, *arguments: Any) -> None:
            pass

        do_GET = do_POST = do_DELETE = _any

    return Handler


def _body(body: bytes, kind: str) -> Any:
    """JSON, or the file of a form."""
    if not kind.startswith("multipart/"):
        return json.loads(body) if body else {}
    message: Message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    for part in message.get_payload():
        if part.get_param("name", header="content-disposition") == "uploadfile":  # type: ignore[union-attr]
            return part.get_payload(decode=True)  # type: ignore[union-attr]
    raise RefusedError(400, "no uploadfile in the form")


def _filtered(all_of: list[Json], query: dict[str, str]) -> list[Json]:
    if "filter" not in query:
        return all_of
    # Protobuf's JSON may say a field and a value of an enumeration in two ways each.
    said = query["filter"].replace('"stringValue"', '"string_value"').replace('"operation": 1', '"operation": "EQUALS"')
    wanted = json.loads(said)
    values = {one["key"]: one["string_value"] for one in as_model("V2beta1Filter", wanted)["predicates"]}
    return [one for one in all_of if all(one.get(key) == value for key, value in values.items())]


def _needs(value: Json, *keys: str) -> None:
    missing = [key for key in keys if not value.get(key)]
    if missing:
        raise RefusedError(400, f"missing {missing}")


def _id() -> str:
    return str(uuid.uuid4())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
