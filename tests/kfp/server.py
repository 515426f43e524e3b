"""A server on loopback that speaks KFP's v2beta1 API, as far as runs are submitted and followed.

What belongs to which namespace, and who may do what there, is in `namespaces`. What it is asked and what it answers are
held against the models that KFP generates from its published OpenAPI: a key that they do not know fails. Packages are
parsed strictly, and a run's parameters are held against the package's, as KFP's API server does. It runs nothing: a
test says what a run's tasks look like, one look after the other.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from typing import Any

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.cluster.certificates import Pair
from tests.kfp.handler import handler
from tests.kfp.namespaces import Rules, User
from tests.kfp.refusals import RefusedError

Json = dict[str, Any]
Scene = Callable[[str], Json]
BASE = "/apis/v2beta1/"


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
    """The server's state, and what tests set: token, version, trouble, and what runs go through.

    pair: certificate and key, for TLS.
    """

    def __init__(self, pair: Pair | None = None) -> None:
        self.rules = Rules()
        self.user: User | None = None
        """Who asks at the moment."""
        self.lock = threading.Lock()
        self.prefix = ""
        """Path before KFP's own. What is asked elsewhere is answered as an API server does that knows no such path."""
        self.login_page = False
        """Who has no valid token is sent to a page, as by a proxy that does the login."""
        self.experiments: list[Json] = []
        self.pipelines: list[Json] = []
        self.versions: list[Json] = []
        self.runs: list[Json] = []
        self.requests: list[str] = []
        self.token: str | None = None
        """Without it, or a user's, nobody is let in. A cookie is as good."""
        self.before_2_17 = False
        self.trouble: list[tuple[str, int]] = []
        """(part of a request, status): the next request that has the part is answered so; 0: not at all."""
        self.lost: list[str] = []
        """Part of a request that is carried out, and whose answer is lost."""
        self.late: list[str] = []
        """Part of a request without an answer, which is carried out by `deliver` only."""
        self.held: list[tuple[str, str, dict[str, str], Any]] = []
        self.rivals: list[str] = []
        """End of a request that somebody else makes too, just before."""
        self.scenes: list[Scene] = []
        """What a run looks like, one look after the other; the last one stays."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"{'https' if pair else 'http'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Kfp:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def deliver(self) -> None:
        """Carry out the requests that are late."""
        with self.lock:
            held, self.held = self.held, []
            for method, path, query, body in held:
                self.answer(method, path, query, body)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Json:
        """The answer to a request. body: JSON, or the file of a form. Raises RefusedError."""
        where = f"{method} {path.removeprefix(BASE)}"
        if where == "GET healthz":
            return as_model("V2beta1GetHealthzResponse", {"multi_user": self.rules.multi_user})
        for pattern, handle in _ROUTES:
            match = re.fullmatch(pattern, where)
            if match:
                return handle(self, *match.groups(), query=query, body=body)
        raise RefusedError(404, f"no {where}")

    def create_experiment(self, query: dict[str, str], body: Json) -> Json:
        as_model("V2beta1Experiment", body)
        _needs(body, "display_name")
        body["namespace"] = self.rules.admit(self.user, "create", "experiments", body.get("namespace"))
        self.rules.unique(self.experiments, body, "Failed to create a v2beta1 experiment", "experiment")
        record = {**body, "experiment_id": _id(), "created_at": _now(), "storage_state": "AVAILABLE"}
        self.experiments.append(record)
        return as_model("V2beta1Experiment", record)

    def list_experiments(self, query: dict[str, str], body: Json) -> Json:
        namespace = self.rules.admit(self.user, "list", "experiments", query.get("namespace"))
        own = [one for one in self.experiments if one["namespace"] == namespace]
        return as_model("V2beta1ListExperimentsResponse", {"experiments": _filtered(own, query)})

    def create_pipeline(self, query: dict[str, str], body: Json) -> Json:
        as_model("V2beta1Pipeline", body)
        _needs(body, "display_name")
        body["namespace"] = self.rules.admit(self.user, "create", "pipelines", body.get("namespace"))
        self.rules.unique(self.pipelines, body, "Failed to create a pipeline due to server error", "pipeline")
        record = {**body, "pipeline_id": _id(), "created_at": _now()}
        self.pipelines.append(record)
        return as_model("V2beta1Pipeline", record)

    def list_pipelines(self, query: dict[str, str], body: Json) -> Json:
        namespace = self.rules.admit(self.user, "list", "pipelines", query.get("namespace"))
        own = [one for one in self.pipelines if one["namespace"] == namespace]
        return as_model("V2beta1ListPipelinesResponse", {"pipelines": _filtered(own, query)})

    def get_pipeline_by_name(self, name: str, query: dict[str, str], body: Json) -> Json:
        namespace = self.rules.admit(self.user, "get", "pipelines", query.get("namespace"))
        for record in self.pipelines:
            # Without a namespace, KFP looks in all of them.
            if record["display_name"] == name and namespace in ("", record["namespace"]):
                return as_model("V2beta1Pipeline", record)
        raise RefusedError(404, f"ResourceNotFoundError: Namespace/Pipeline {namespace}/{name} not found")

    def list_versions(self, pipeline: str, query: dict[str, str], body: Json) -> Json:
        self.rules.admit(self.user, "list", "pipelines", self._namespace_of(self.pipelines, "pipeline_id", pipeline))
        own = [one for one in self.versions if one["pipeline_id"] == pipeline]
        return as_model("V2beta1ListPipelineVersionsResponse", {"pipeline_versions": _filtered(own, query)})

    def upload_version(self, query: dict[str, str], body: bytes) -> Json:
        if query.keys() - {"name", "display_name", "pipelineid", "description", "tags"}:
            raise RefusedError(400, f"unknown parameters {sorted(query)}")
        spec = self.package(list(yaml.load_all(body, Loader=yaml.CSafeLoader)))
        namespace = self._namespace_of(self.pipelines, "pipeline_id", query["pipelineid"])
        self.rules.admit(self.user, "create", "pipelines", namespace)
        versions = {one["display_name"] for one in self.versions if one["pipeline_id"] == query["pipelineid"]}
        if query["name"] in versions:
            raise RefusedError(409, "Failed to create a pipeline version", key="error_message")
        record = {
            "pipeline_id": query["pipelineid"],
            "pipeline_version_id": _id(),
            "display_name": query["name"],
            "created_at": _now(),
            "pipeline_spec": spec,
        }
        self.versions.append(record)
        return as_model("V2beta1PipelineVersion", record)

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
            identifier = reference["pipeline_version_id"]
            spec = next(one["pipeline_spec"] for one in self.versions if one["pipeline_version_id"] == identifier)
        self.parameters(spec["pipeline_spec"], body.get("runtime_config", {}).get("parameters") or {})
        namespace = self._namespace_of(self.experiments, "experiment_id", body.get("experiment_id", ""))
        self.rules.admit(self.user, "create", "runs", namespace)
        record = {**body, "run_id": _id(), "created_at": _now(), "state": "PENDING", "storage_state": "AVAILABLE"}
        self.runs.append(record)
        return as_model("V2beta1Run", record)

    def start(self, namespace: str = "") -> str:
        """A run that somebody else has started, as `create_run` makes it; its id."""
        experiment = {"experiment_id": _id(), "display_name": "trial", "namespace": namespace}
        run = {"run_id": _id(), "display_name": "trial", "created_at": _now(), "state": "RUNNING"}
        self.experiments.append(experiment)
        self.runs.append({**run, "experiment_id": experiment["experiment_id"]})
        return str(run["run_id"])

    def parameters(self, spec: Json, values: Json) -> None:
        """As KFP: no parameter that the package does not define, and none missing that has no default."""
        defined = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        surplus = values.keys() - defined.keys()
        missing = {key for key, one in defined.items() if key not in values and not one.get("isOptional")}
        if surplus or missing:
            raise RefusedError(400, f"parameters: unknown {sorted(surplus)}, missing {sorted(missing)}")

    def get_run(self, run: str, query: dict[str, str], body: Json) -> Json:
        record = self._run(run, "get")
        self._play(record)
        return as_model("V2beta1Run", record)

    def list_runs(self, query: dict[str, str], body: Json) -> Json:
        own = [one for one in self.runs if one["experiment_id"] == query.get("experiment_id", one["experiment_id"])]
        runs = _filtered(own, query)
        for record in runs:
            self._play(record)
        first, size = int(query.get("page_token") or 0), int(query.get("page_size") or 20)
        page = {"runs": runs[first : first + size]}
        more = {"next_page_token": str(first + size)} if first + size < len(runs) else {}
        return as_model("V2beta1ListRunsResponse", {**page, **more})

    def _play(self, record: Json) -> None:
        """Let a run go on by a scene."""
        if self.scenes and record["state"] not in ("CANCELED", "FAILED", "SUCCEEDED"):
            record.update(self.scenes[0](record["run_id"]))
            if len(self.scenes) > 1:
                del self.scenes[0]

    def terminate_run(self, run: str, query: dict[str, str], body: Json) -> Json:
        self._run(run, "terminate")["state"] = "CANCELED"
        return {}

    def _run(self, run: str, verb: str) -> Json:
        for one in self.runs:
            if one["run_id"] == run:
                namespace = self._namespace_of(self.experiments, "experiment_id", one["experiment_id"])
                self.rules.admit(self.user, verb, "runs", namespace)
                return one
        raise RefusedError(404, f"Run {run} not found")

    @staticmethod
    def _namespace_of(records: list[Json], key: str, identifier: str) -> str:
        for one in records:
            if one[key] == identifier:
                return str(one["namespace"])
        raise RefusedError(404, f"{key} {identifier} not found")


_ROUTES: list[tuple[str, Callable[..., Json]]] = [
    ("POST experiments", Kfp.create_experiment),
    ("GET experiments", Kfp.list_experiments),
    ("POST pipelines", Kfp.create_pipeline),
    ("GET pipelines", Kfp.list_pipelines),
    ("GET pipelines/names/([^/]+)", Kfp.get_pipeline_by_name),
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


def _filtered(all_of: list[Json], query: dict[str, str]) -> list[Json]:
    if "filter" not in query:
        return all_of
    # Protobuf's JSON has two spellings of a field and of an enumeration's value.
    text = query["filter"].replace('"stringValue', '"string_value').replace('"operation": 1', '"operation": "EQUALS"')
    predicates = as_model("V2beta1Filter", json.loads(text))["predicates"]
    allowed = {
        one["key"]: one["string_values"]["values"] if one["operation"] == "IN" else [one["string_value"]]
        for one in predicates
    }
    return [one for one in all_of if all(one.get(key) in values for key, values in allowed.items())]


def _needs(value: Json, *keys: str) -> None:
    missing = [key for key in keys if not value.get(key)]
    if missing:
        raise RefusedError(400, f"missing {missing}")


def _id() -> str:
    return str(uuid.uuid4())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
