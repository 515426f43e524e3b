"""The S3 store against plain transfers by the same client, on versitygw on loopback: what its promises cost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from minio import Minio

SMALL, SMALL_BYTES = 100, 1 << 20
LARGE_BYTES = 64 << 20
THREADS = 8
ROUNDS = 5


def measure() -> list[dict[str, Any]]:
    """Seconds of publishing and of fetching an artifact of 100 small files and a large one, and of plain transfers."""
    from tests.cluster.build import why_not

    if reason := why_not():
        print(f"store: not measured, {reason}")
        return []
    from tests.cluster.keeper import Keeper
    from tests.cluster.object_store import start

    with TemporaryDirectory() as name:
        keeper = Keeper(Path(name) / "logs")
        try:
            server = start(keeper, Path(name) / "server")
            os.environ |= server.environment()
            return _measured(Path(name), server.make_bucket("bench"), server)
        finally:
            keeper.end()


def _measured(folder: Path, bucket: str, server: Any) -> list[dict[str, Any]]:
    files = folder / "files"
    files.mkdir()
    for number in range(SMALL):
        (files / f"{number}.bin").write_bytes(os.urandom(SMALL_BYTES))
    (files / "large.bin").write_bytes(os.urandom(LARGE_BYTES))
    keys = {"access_key": server.access_key, "secret_key": server.secret_key, "region": server.region}
    client = Minio(server.endpoint.removeprefix("http://"), secure=False, **keys)
    rounds = [_round(client, bucket, files, folder / str(turn)) for turn in range(ROUNDS)]
    best = {name: median(one[name] for one in rounds) for name in rounds[0]}
    how = f"{SMALL} files of 1 MiB and one of 64 MiB, {THREADS} threads, median of {ROUNDS}; versitygw on loopback; "
    return [
        _result("publish", best["publish"], "s", f"{how}drafts, choice, copies, manifest"),
        _result("publish_by_fput", best["publish"] / best["fput"], "times", f"{how}seconds over minio's fput_object's"),
        _result("fetch", best["fetch"], "s", f"{how}checksums compared"),
        _result("fetch_by_fget", best["fetch"] / best["fget"], "times", f"{how}seconds over minio's fget_object's"),
    ]


def _round(client: Minio, bucket: str, files: Path, folder: Path) -> dict[str, float]:
    """Seconds of each way, once. Reader and writer are two machines: neither has the other's cache."""
    from endcap.store import open_store

    names, key = sorted(file.name for file in files.iterdir()), folder.name
    os.environ["ENDCAP_CACHE"] = str(folder / "writer")
    writer = open_store(f"{bucket}/store")
    os.environ["ENDCAP_CACHE"] = str(folder / "reader")
    reader = open_store(f"{bucket}/store")

    def put(name: str) -> None:
        client.fput_object("bench", f"plain/{key}/{name}", str(files / name))

    def get(name: str) -> None:
        client.fget_object("bench", f"plain/{key}/{name}", str(folder / "plain" / name))

    def publish() -> None:
        with writer.publish("bench", key) as draft:
            for name in names:
                (draft.path / name).hardlink_to(files / name)

    times = {"fput": _seconds(lambda: _parallel(put, names)), "publish": _seconds(publish)}
    times["fget"] = _seconds(lambda: _parallel(get, names))
    return times | {"fetch": _seconds(lambda: reader.fetch(f"{bucket}/store/bench/{key}"))}


def _parallel(transfer: Callable[[str], None], names: list[str]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(transfer, names):
            pass


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _result(name: str, value: float, unit: str, how: str) -> dict[str, Any]:
    return {"name": f"store_{name}", "value": value, "unit": unit, "floor": None, "lower_is_better": True, "how": how}
