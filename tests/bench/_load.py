"""An open-loop load generator (vegeta, out of Go modules) and what it tells: no measurement of its own."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.build import build, program


@dataclass(frozen=True)
class Load:
    """What one attack met. Times in milliseconds; success: share of requests answered 200."""

    rate: float
    success: float
    p50: float
    p90: float
    p99: float
    codes: Mapping[str, int]
    errors: Sequence[str]

    def within(self, p90: float) -> bool:
        return self.success == 1.0 and self.p90 <= p90


def targets(url: str, bodies: Sequence[Any], file: Path, headers: Mapping[str, str] | None = None) -> Path:
    """A file of requests for `attack`, which takes them in turn."""
    head = {"content-type": ["application/json"], **{name: [value] for name, value in (headers or {}).items()}}
    with file.open("w") as out:
        for body in bodies:
            text = base64.b64encode(json.dumps(body).encode()).decode()
            out.write(json.dumps({"method": "POST", "url": url, "header": head, "body": text}) + "\n")
    return file


def attack(file: Path, rate: int, seconds: float) -> Load:
    """Send `rate` requests a second, whether the ones before are answered or not."""
    build("vegeta")
    vegeta = str(program("vegeta", "vegeta"))
    told = file.with_suffix(".told")
    options = ["-format=json", f"-targets={file}", f"-rate={rate}", f"-duration={seconds}s", "-timeout=10s"]
    # Bodies are read and let go, and what is told is summed up afterwards: the generator is on the same two cores.
    options += ["-max-body=0", f"-output={told}"]
    subprocess.run([vegeta, "attack", *options], check=True)
    report = json.loads(
        subprocess.run([vegeta, "report", "-type=json", str(told)], capture_output=True, check=True).stdout
    )
    times = {name: value / 1e6 for name, value in report["latencies"].items() if name in ("50th", "90th", "99th")}
    return Load(
        report["throughput"],
        report["success"],
        times["50th"],
        times["90th"],
        times["99th"],
        report["status_codes"],
        report["errors"],
    )


def capacity(file: Path, p90: float, *, start: int = 100, most: int = 6000, seconds: float = 8.0) -> int:
    """The highest rate, to a tenth, that is answered without an error and with this 90th percentile (ms) or less."""
    good, bad = 0, 0
    rate = start
    while rate <= most and not bad:
        good, bad = (rate, 0) if attack(file, rate, seconds).within(p90) else (good, rate)
        rate = rate * 3 // 2
    while bad and bad - good > max(good // 10, 10):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if attack(file, middle, seconds).within(p90) else (good, middle)
    return good
