"""What access costs: processor time a request of Envoy and predictor together, in interleaved pairs.

``python -m tests.bench access``: with keys by without, both of this checkout.
``python -m tests.bench access --against PATH``: also this checkout without keys by another's, such as one that
`git worktree add PATH COMMIT` makes. Both run in this environment, each in processes that have the checkout first on
their path. ENDCAP_BENCH_PAIRS: of pairs, 10. ENDCAP_BENCH_REQUESTS: of one measurement, 1,500.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from endcap.store import open_store
from tests.bench.serving import GRU, NAME, Case, _bodies, _packaged

HERE = Path(__file__).resolve().parents[2]
PAIRS = int(os.environ.get("ENDCAP_BENCH_PAIRS", "10"))
REQUESTS = int(os.environ.get("ENDCAP_BENCH_REQUESTS", "1500"))
CASE = Case("rerank 200 of 40,000, gru4rec 100", {**GRU, "width": 100}, 40_000, True, 0, 0.0)
CLIENTS = 100
"""With a key each, of whom one asks."""
KEY = "a-key-that-only-the-bench-knows"
MOST = {"plain": 1.03, "keyed": 1.10}
"""Times the processor time of what it is compared with."""
WORKER = """
import json, subprocess, sys, time, urllib.request
from pathlib import Path
import endcap_serving
from endcap_serving.gateway.routes import Split, Upstream
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.predictors import find_free_port

told = json.loads(sys.stdin.readline())
port = find_free_port()
command = [sys.executable, "-m", "endcap_serving.predictor", "--package", told["package"], "--model-name", told["name"]]
command += ["--version", "1", "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
predictor = subprocess.Popen(command, stdout=subprocess.DEVNULL)
envoys = {}
try:
    ready = f"http://127.0.0.1:{port}/v2/models/{told['name']}/ready"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and predictor.poll() is None:
        try:
            urllib.request.urlopen(ready, timeout=2).close()
            break
        except OSError:
            time.sleep(0.2)
    for kind, policy in told["gateways"].items():
        options = {}
        if policy is not None:
            from endcap_serving.gateway.access.access import Access
            from endcap_serving.gateway.access.policy import read_policy
            options["access"] = Access(read_policy(json.dumps(policy).encode()))
        split = Split(Upstream("bench", port))
        envoys[kind] = EnvoyProcess(Path(told["folder"]) / kind, "127.0.0.1", 0, told["name"], split, **options)
    places = {kind: [envoy.address, envoy.process.pid] for kind, envoy in envoys.items()}
    print(json.dumps({"code": endcap_serving.__path__[0], "predictor": predictor.pid, "gateways": places}), flush=True)
    sys.stdin.read()
finally:
    for envoy in envoys.values():
        envoy.end()
    predictor.terminate()
    predictor.wait(30)
"""

Spent = Callable[[], float]


def measure() -> list[dict[str, Any]]:
    return compare(None)


def compare(against: Path | None) -> list[dict[str, Any]]:
    """The median ratios of processor time a request. Raises AssertionError where a request is not answered 200."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        store = open_store(str(folder / "store"))
        package = store.fetch(_packaged(CASE, store)[0]) if against is None else _packaged_by(against, store.root)
        ours = stack.enter_context(_served(HERE, folder / "ours", package, {"plain": None, "keyed": _policy()}))
        results = []
        if against is not None:
            theirs = stack.enter_context(_served(against.resolve(), folder / "theirs", package, {"plain": None}))
            results.append(_compared("plain", ours["plain"], theirs["plain"], "without keys by the other checkout"))
        results.append(_compared("keyed", ours["keyed"], ours["plain"], f"with {CLIENTS} clients' keys by without"))
        return results


def _packaged_by(checkout: Path, store: str) -> Path:
    """The package, made by another checkout: an older release does not read what a newer one writes."""
    program = (
        "import sys; from tests.bench import serving; from endcap.store import open_store; "
        "store = open_store(sys.argv[1]); "
        f"print(store.fetch(serving._packaged(serving.Case(*{astuple(CASE)!r}), store)[0]))"
    )
    words = [sys.executable, "-c", program, store]
    run = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=True)
    return Path(run.stdout.split()[-1])


def _policy() -> dict[str, Any]:
    from tests.access.credentials import make_client

    others = [make_client(f"client-{number}", f"key-{number}") for number in range(CLIENTS - 1)]
    return {"clients": [*others, make_client("bench", KEY)]}


def _compared(kind: str, ours: Spent, theirs: Spent, what: str) -> dict[str, Any]:
    for side in (ours, theirs):
        side()
    pairs = []
    for number in range(PAIRS):
        # The first of two may find the processor hotter.
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        spent = {first: first(), second: second()}
        pairs.append((spent[ours], spent[theirs]))
    ratios = sorted(own / other for own, other in pairs)
    low, high = _interval(ratios)
    own, other = (1e6 * statistics.median(side) for side in zip(*pairs, strict=True))
    return {
        "name": f"processor time a request, {what}",
        "value": statistics.median(ratios),
        "unit": f"times, {low:.3f} to {high:.3f}",
        "floor": MOST[kind],
        "lower_is_better": True,
        "how": f"median of {PAIRS} interleaved pairs of {REQUESTS:,} requests, and its 95 % interval by order; "
        f"{own:.0f} and {other:.0f} microseconds of Envoy and predictor",
        "ratios": ratios,
    }


def _interval(ratios: list[float]) -> tuple[float, float]:
    """Of the median, distribution-free: of ten values the second and the ninth (97.9 %)."""
    aside = 1 if len(ratios) >= 10 else 0
    return ratios[aside], ratios[-1 - aside]


@contextmanager
def _served(
    checkout: Path, folder: Path, package: Path, gateways: Mapping[str, dict[str, Any] | None]
) -> Iterator[dict[str, Spent]]:
    """By kind of gateway what sends the requests, and gives the processor seconds of one."""
    first = folder / "path"
    first.mkdir(parents=True)
    for name, source in (("endcap", "endcap"), ("endcap_serving", "serving")):
        (first / name).symlink_to(checkout / source, target_is_directory=True)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(first)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told = {"package": str(package), "name": NAME, "folder": str(folder), "gateways": gateways}
    try:
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, f"the process with {checkout} ended with {process.wait()}"
        there = json.loads(line)
        assert Path(there["code"]).resolve() == checkout / "serving", there["code"]
        bodies = [json.dumps(body).encode() for body in _bodies(CASE)]
        predictor = there["predictor"]
        yield {kind: _asker(place, [pid, predictor], bodies) for kind, (place, pid) in there["gateways"].items()}
    finally:
        process.stdin.close()
        process.wait(60)


def _asker(address: str, processes: list[int], bodies: list[bytes]) -> Spent:
    place = urlsplit(address)
    headers = {"content-type": "application/json", "x-endcap-shopper": "s", "x-endcap-key": KEY}
    connection = http.client.HTTPConnection(place.hostname or "", place.port)

    def ask() -> float:
        before = sum(map(_seconds, processes))
        for number in range(REQUESTS):
            connection.request("POST", f"/v1/models/{NAME}:predict", bodies[number % len(bodies)], headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
        return (sum(map(_seconds, processes)) - before) / REQUESTS

    return ask


def _seconds(process: int) -> float:
    """Of all threads, by the scheduler's own count in nanoseconds."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
