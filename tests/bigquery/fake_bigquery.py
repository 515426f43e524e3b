"""A small server that answers as Google documents where no emulator does.

Its Storage Read API knows the offset of a stream, fields of structs, the time of a snapshot, streams that break and
quotas; its REST interface knows the bytes of a dry run, views, temporary results and refusals.
https://cloud.google.com/bigquery/docs/reference/storage/rpc, https://cloud.google.com/bigquery/docs/reference/rest
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from endcap.retries import RetryLimits
from endcap.sources.bigquery.client import Warehouse, open_storage
from tests.bigquery.emulator import open_client

Json = dict[str, Any]
PROJECT = "shop-project"
NOW = "1767225600000000"
"""2026-01-01 00:00 UTC in microseconds."""
PATIENCE = RetryLimits(total=2.0, first=0.01, most=0.05)
_SERVICE = "/google.cloud.bigquery.storage.v1.BigQueryRead/"


@dataclass
class Refusal:
    """An answer that refuses a call. seconds: how long the client is to wait, if the server says so."""

    code: grpc.StatusCode
    message: str = "refused"
    seconds: float | None = None


@dataclass
class FakeBigQuery:
    """The tables of the server, what it refuses, and what it was asked."""

    tables: dict[str, Json] = field(default_factory=dict)
    """By project.dataset.table: the answer to `tables.get`."""
    rows: dict[str, pa.Table] = field(default_factory=dict)
    queries: list[tuple[str, Json]] = field(default_factory=list)
    """A part of a query's text, and its answer: `rows`, `schema`, `destination`, `bytes` or `error`."""
    refusals: list[Refusal] = field(default_factory=list)
    """What the next calls of the Storage Read API are answered, first to last."""
    http_refusals: list[tuple[int, str, str]] = field(default_factory=list)
    """What the next calls of the REST interface are answered: status, reason and message."""
    break_after: list[int] = field(default_factory=list)
    """After how many messages the next streams break."""
    streams: int = 1
    batch: int = 2
    """Rows of a message."""
    sessions: list[Any] = field(default_factory=list)
    reads: list[tuple[str, int]] = field(default_factory=list)
    """Streams that were read, with their offsets."""
    asked: list[Json] = field(default_factory=list)
    """The bodies of jobs."""
    _jobs: dict[str, Json] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer_http(self, method: str, path: str, body: Json) -> tuple[int, Json]:
        """Answer a call of the REST interface."""
        if self.http_refusals:
            status, reason, message = self.http_refusals.pop(0)
            return _refuse(status, reason, message)
        parts = path.split("?")[0].removeprefix("/bigquery/v2/").split("/")
        match parts:
            case ["projects", project, "datasets", dataset, "tables"]:
                names = [name.split(".") for name in self.tables if name.startswith(f"{project}.{dataset}.")]
                listed = [{"tableReference": _refer(*name), "type": "TABLE"} for name in names]
                return 200, {"tables": listed, "totalItems": len(listed)}
            case ["projects", project, "datasets", dataset, "tables", table]:
                name = f"{project}.{dataset}.{table}"
                if name not in self.tables:
                    return _refuse(404, "notFound", f"Not found: Table {project}:{dataset}.{table}")
                return 200, {"tableReference": _refer(project, dataset, table), "type": "TABLE", **self.tables[name]}
            case ["projects", _, "jobs"]:
                return self._begin_job(body)
            case ["projects", _, "queries" | "jobs" as kind, job]:
                return 200, self._jobs[job] if kind == "jobs" else self._jobs[job]["results"]
        return _refuse(404, "notFound", path)

    def _begin_job(self, body: Json) -> tuple[int, Json]:
        self.asked.append(body)
        configuration = body["configuration"]
        sql = configuration["query"]["query"]
        answer = next((answer for part, answer in self.queries if part in sql), None)
        if answer is None and "CURRENT_TIMESTAMP() AS moment" in sql:
            answer = {"rows": [[NOW]], "schema": [{"name": "moment", "type": "TIMESTAMP"}]}
        answer = answer or {}
        if "error" in answer:
            return _refuse(*answer["error"])
        dry, reference = configuration.get("dryRun", False), body["jobReference"]
        schema = {"fields": answer.get("schema", [])}
        job = {
            "kind": "bigquery#job",
            "jobReference": reference,
            "configuration": configuration,
            "status": {"state": "DONE"},
            "statistics": {
                "totalBytesProcessed": str(answer.get("bytes", 0)),
                "query": {
                    "totalBytesProcessed": str(answer.get("bytes", 0)),
                    "schema": schema,
                    "statementType": "SELECT",
                },
            },
        }
        if "destination" in answer:
            configuration["query"]["destinationTable"] = _refer(*answer["destination"].split("."))
        rows = [{"f": [{"v": value} for value in row]} for row in answer.get("rows", ())]
        job["results"] = {
            "jobComplete": True, "jobReference": reference, "schema": schema, "rows": rows, "totalRows": str(len(rows)),
        }  # fmt: skip
        if not dry:
            self._jobs[reference["jobId"]] = job
        return 200, {key: value for key, value in job.items() if key != "results"}

    def create_session(self, request: Any, context: Any) -> Any:
        """Answer CreateReadSession."""
        self._refuse_next(context)
        session = request.read_session
        name = ".".join(session.table.split("/")[1::2])
        if name not in self.rows:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Not found: Table {name}")
        self.sessions.append(session)
        columns = [path.split(".")[0] for path in session.read_options.selected_fields]
        table = self.rows[name].select(list(dict.fromkeys(columns)))
        key = f"projects/{PROJECT}/locations/eu/sessions/{len(self.sessions)}"
        self.rows[key] = table
        count = min(self.streams, request.max_stream_count)
        answer = types.ReadSession(
            name=key,
            table=session.table,
            data_format=types.DataFormat.ARROW,
            streams=[types.ReadStream(name=f"{key}/streams/{place}") for place in range(count)],
        )
        answer.arrow_schema.serialized_schema = table.schema.serialize().to_pybytes()
        return answer

    def read_rows(self, request: Any, context: Any) -> Iterator[Any]:
        """Answer ReadRows from the offset on."""
        with self._lock:
            self.reads.append((request.read_stream, request.offset))
            breaks = self.break_after.pop(0) if self.break_after else None
        self._refuse_next(context)
        key, _, place = request.read_stream.rpartition("/streams/")
        table = self.rows[key]
        share = -(-table.num_rows // self.streams)
        part = table.slice(int(place) * share, share).slice(request.offset)
        for number, start in enumerate(range(0, part.num_rows, self.batch)):
            if number == breaks:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")
            (batch,) = part.slice(start, self.batch).combine_chunks().to_batches()
            answer = types.ReadRowsResponse(row_count=batch.num_rows)
            answer.arrow_record_batch.serialized_record_batch = batch.serialize().to_pybytes()
            yield answer

    def _refuse_next(self, context: Any) -> None:
        with self._lock:
            refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is None:
            return
        if refusal.seconds is None:
            context.abort(refusal.code, refusal.message)
        info = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=int(refusal.seconds * 1e9)))
        status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message=refusal.message)
        status.details.add().Pack(info)
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(refusal.code, refusal.message)


@contextlib.contextmanager
def serve(fake: FakeBigQuery) -> Iterator[Warehouse]:
    """Serve the tables on loopback at free ports, and yield Google's clients of them."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(fake.answer_http))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([_Handlers(fake)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Warehouse(
            open_client(f"http://127.0.0.1:{http.server_port}"),
            open_storage(f"127.0.0.1:{port}"),
            PROJECT,
            None,
            PATIENCE,
        )
    finally:
        server.stop(0).wait()
        http.shutdown()
        http.server_close()


def _refuse(status: int, reason: str, message: str) -> tuple[int, Json]:
    return status, {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}


def _refer(project: str, dataset: str, table: str) -> Json:
    return {"projectId": project, "datasetId": dataset, "tableId": table}


def _make_handler(answer: Callable[[str, str, Json], tuple[int, Json]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, document = answer(self.command, self.path, body)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, fake: FakeBigQuery) -> None:
        self._fake = fake

    def service(self, details: Any) -> Any:
        if details.method == f"{_SERVICE}CreateReadSession":
            return grpc.unary_unary_rpc_method_handler(
                self._fake.create_session, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
            )
        if details.method == f"{_SERVICE}ReadRows":
            return grpc.unary_stream_rpc_method_handler(
                self._fake.read_rows, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
            )
        return None
