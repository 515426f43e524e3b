"""Obstore beside minio, by what a store asks of a bucket (docs/architecture.md, "Libraries weighed").

Obstore is no dependency: install it first, else nothing is measured. Both clients ask one server in turns, so the
ratios of their times count and the times do not. The server is the one that ENDCAP_S3_ENDPOINT and the AWS variables
name, such as versitygw; without them it is moto in a process of its own. What obstore cannot do is printed as 0.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from minio import Minio
from minio.commonconfig import CopySource

ROUNDS, SMALL, LARGE, OBJECTS = 15, 2_000, 64 << 20, 200
KEYS = {
    "access_key_id": os.environ.get("AWS_ACCESS_KEY_ID", "endcap-test"),
    "secret_access_key": os.environ.get("AWS_SECRET_ACCESS_KEY", "endcap-test-secret"),
}
MOTO = """
import time
from tests.store.servers import moto

with moto() as server:
    print(f"endpoint {server.endpoint}", flush=True)
    time.sleep(900)
"""


def measure() -> list[dict[str, Any]]:
    """Promises kept (1 or 0), and obstore's time for each operation as a share of minio's."""
    if importlib.util.find_spec("obstore") is None:
        print("obstore is not installed: nothing to measure (pip install obstore)", file=sys.stderr)
        return []
    if endpoint := os.environ.get("ENDCAP_S3_ENDPOINT"):
        return [*_check_promises(endpoint), *_compare_times(endpoint)]
    server = subprocess.Popen([sys.executable, "-c", MOTO], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        endpoint = next(line.split()[1] for line in server.stdout if line.startswith("endpoint "))
        return [*_check_promises(endpoint), *_compare_times(endpoint)]
    finally:
        server.kill()
        server.wait()


def _open_obstore(endpoint: str) -> Any:
    stores = importlib.import_module("obstore.store")
    options = {"allow_http": True}
    return stores.S3Store("trial", endpoint=endpoint, region="us-east-1", client_options=options, **KEYS)


def _open_minio(endpoint: str) -> Minio:
    client = Minio(
        endpoint.removeprefix("http://"),
        KEYS["access_key_id"],
        KEYS["secret_access_key"],
        secure=False,
        region="us-east-1",
    )
    if not client.bucket_exists("trial"):
        client.make_bucket("trial")
    return client


def _is_refused(call: Callable[[], object], *kinds: type[Exception]) -> bool:
    try:
        call()
    except kinds:
        return True
    return False


def _check_promises(endpoint: str) -> list[dict[str, Any]]:
    """What `tests/store/contract.py` asks of a bucket, by obstore alone."""
    obstore: Any = importlib.import_module("obstore")
    errors: Any = importlib.import_module("obstore.exceptions")
    stores: Any = importlib.import_module("obstore.store")
    _open_minio(endpoint)
    kinds = (errors.AlreadyExistsError, errors.PreconditionError, errors.NotSupportedError, errors.BaseError)
    results = []
    for kind, store in (("s3", _open_obstore(endpoint)), ("memory", stores.MemoryStore())):
        first = obstore.put(store, "conditions", b"one", mode="create")
        current: Any = {name: value for name, value in first.items() if value is not None}
        promises: dict[str, bool] = {
            "write only if absent": _is_refused(
                lambda s=store: obstore.put(s, "conditions", b"2", mode="create"), *kinds
            ),
            "write only over an etag": bool(obstore.put(store, "conditions", b"three", mode=current)["e_tag"])
            and _is_refused(lambda s=store, c=current: obstore.put(s, "conditions", b"four", mode=c), *kinds),
            "many parts only if absent": _creates_parts_once(obstore, store, kinds),
            "copy by the server": not _is_refused(lambda s=store: obstore.copy(s, "conditions", "copied"), *kinds),
            "read on from an offset": bytes(obstore.get_range(store, "conditions", start=2, end=5)) == b"ree",
            "read only one etag": _is_refused(
                lambda s=store: obstore.get(s, "conditions", options={"if_match": "other"}), *kinds
            ),
            "notes beside an object": _keeps_notes(obstore, store, kinds),
            "the server's own time": "date" in {str(name).lower() for name in obstore.head(store, "conditions")},
        }
        results += [_result(f"obstore {kind}: {name}", float(kept), "kept", None) for name, kept in promises.items()]
    return results


def _creates_parts_once(obstore: Any, store: Any, kinds: tuple[type[Exception], ...]) -> bool:
    """Whether an upload in parts takes the condition that no object is there."""

    def upload() -> object:
        return obstore.put(store, "parts", b"x" * (12 << 20), mode="create", use_multipart=True)

    return not _is_refused(upload, *kinds, ValueError) and _is_refused(upload, *kinds)


def _keeps_notes(obstore: Any, store: Any, kinds: tuple[type[Exception], ...]) -> bool:
    """Whether a writer's own mark lies beside the object and can be read without its bytes."""
    try:
        obstore.put(store, "noted", b"content", attributes={"writer": "me"})
    except kinds:
        return False
    return dict(obstore.get(store, "noted", options={"head": True}).attributes).get("writer") == "me"


def _compare_times(endpoint: str) -> list[dict[str, Any]]:
    obstore: Any = importlib.import_module("obstore")
    client, store, large = _open_minio(endpoint), _open_obstore(endpoint), b"x" * LARGE

    def read_minio(name: str) -> int:
        response = client.get_object("trial", name)
        try:
            return sum(len(piece) for piece in response.stream(1 << 20))
        finally:
            response.close()
            response.release_conn()

    for number in range(OBJECTS):
        obstore.put(store, f"many/{number:04}", b"x")
    obstore.put(store, "small", b"x" * SMALL)
    obstore.put(store, "large", large)
    operations: dict[str, tuple[Callable[[], object], Callable[[], object], int]] = {
        "write 2 kB": (
            lambda: client.put_object("trial", "small", BytesIO(b"x" * SMALL), SMALL),
            lambda: obstore.put(store, "small", b"x" * SMALL),
            20,
        ),
        "read 2 kB": (lambda: read_minio("small"), lambda: bytes(obstore.get(store, "small").bytes()), 20),
        "head": (lambda: client.stat_object("trial", "small"), lambda: obstore.head(store, "small"), 20),
        "list 200": (
            lambda: list(client.list_objects("trial", "many/", recursive=True)),
            lambda: [one for page in obstore.list(store, "many/") for one in page],
            3,
        ),
        "copy": (
            lambda: client.copy_object("trial", "copied", CopySource("trial", "small")),
            lambda: obstore.copy(store, "small", "copied"),
            20,
        ),
        "write 64 MB": (
            lambda: client.put_object(
                "trial", "large", BytesIO(large), LARGE, part_size=8 << 20, num_parallel_uploads=3
            ),
            lambda: obstore.put(store, "large", large, chunk_size=8 << 20, max_concurrency=3),
            1,
        ),
        "read 64 MB": (
            lambda: read_minio("large"),
            lambda: sum(len(piece) for piece in obstore.get(store, "large").stream(min_chunk_size=1 << 20)),
            1,
        ),
    }
    results = []
    for name, (by_minio, by_obstore, times) in operations.items():
        ratios = []
        for _ in range(ROUNDS if times > 1 else 5):
            spent = [_time_calls(call, times) for call in (by_minio, by_obstore)]
            ratios.append(spent[1] / spent[0])
        results.append(_result(f"obstore's time over minio's: {name}", statistics.median(ratios), "ratio", None))
    return results


def _time_calls(call: Callable[[], object], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - begun


def _result(name: str, value: float, unit: str, floor: float | None) -> dict[str, Any]:
    how = "median of interleaved pairs on moto" if unit == "ratio" else "asked once"
    return {"name": name, "value": value, "unit": unit, "floor": floor, "lower_is_better": unit == "ratio", "how": how}
