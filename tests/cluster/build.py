"""Builds the parts of the test cluster out of Go modules: ``python -m tests.cluster.build [PART…]``

A part is a folder of ``parts/``: a module of its own whose ``tool`` directives name the programs and whose go.mod and
go.sum pin every version and hash. What is built lies in ``build/cluster/bin/<part>/``, and is built again only when one
of these files, the compiler or the flags change.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "cluster"
_PARTS = Path(__file__).with_name("parts")
PARTS = ("kubernetes", "etcd", "kwok", "kserve", "knative", "envoy-gateway", "helm", "versitygw")
_FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false")


class BuildError(Exception):
    """A part could not be built; the message ends with what the compiler said."""


def why_not() -> str | None:
    """Why nothing can be built here; None where it can."""
    if shutil.which("go") is None:
        return "the test cluster is built out of Go modules, and there is no `go` on the PATH: install Go 1.26 or newer"
    return None


def program(part: str, name: str) -> Path:
    """Where a part's program lies once it is built."""
    return BUILD / "bin" / part / name


def build(part: str) -> float:
    """Build a part unless it is there. Returns the seconds that it took."""
    target = BUILD / "bin" / part
    stamp, key = target / ".built-from", _key(part)
    target.mkdir(parents=True, exist_ok=True)
    with (target / ".lock").open("w") as lock:
        # Whoever else builds it meanwhile does it for us too.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == key:
            return 0.0
        started = time.monotonic()
        _compile(part, target)
        stamp.write_text(key)
        return time.monotonic() - started


def _compile(part: str, target: Path) -> None:
    folder = _PARTS / part
    command = ["go", "build", *_FLAGS, "-ldflags", _link_flags(part), "-o", f"{target}/", "tool"]
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{part} could not be built in {folder}:\n{done.stderr[-4000:]}")


@functools.cache
def module_folder(part: str, module: str) -> Path:
    """Where the sources of a module lie, in the version that a part pins: its CRDs and configuration are read there."""
    said = subprocess.run(
        ["go", "mod", "download", "-json", f"{module}@{version(part, module)}"],
        cwd=_PARTS / part,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    if said.returncode:
        raise BuildError(f"the sources of {module}, which {part} pins, could not be had:\n{said.stderr or said.stdout}")
    return Path(json.loads(said.stdout)["Dir"])


def version(part: str, module: str) -> str:
    """The version of a module that a part pins, for example v1.34.4."""
    pinned = re.search(rf"^(?:require)?\s+{re.escape(module)} (v\S+)", (_PARTS / part / "go.mod").read_text(), re.M)
    if pinned is None:
        raise BuildError(f"{_PARTS / part / 'go.mod'} does not require {module}")
    return pinned[1]


def _key(part: str) -> str:
    said = subprocess.run(["go", "version"], env=_environment(), capture_output=True, text=True, check=True).stdout
    parts = [said, *_FLAGS, _link_flags(part), *((_PARTS / part / name).read_text() for name in ("go.mod", "go.sum"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _link_flags(part: str) -> str:
    """No symbols (they double the time to link), and the release's own number, which charts and clients ask for."""
    flags = ["-s", "-w"]
    if part == "kubernetes":
        number = version(part, "k8s.io/kubernetes")
        major, minor, _ = number.removeprefix("v").split(".", 2)
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            said = {"gitVersion": number, "gitMajor": major, "gitMinor": minor}
            flags += [f"-X {package}.{name}={value}" for name, value in said.items()]
    if part == "helm":
        flags.append(f"-X helm.sh/helm/v4/internal/version.version={version(part, 'helm.sh/helm/v4')}")
    return " ".join(flags)


def _environment() -> dict[str, str]:
    """Pure Go, the machine's own compiler, and no flags of the caller's that would change what is built."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}


def main(parts: list[str]) -> None:
    if reason := why_not():
        sys.exit(reason)
    for number, part in enumerate(parts or PARTS, 1):
        print(f"[{number}/{len(parts or PARTS)}] {part} ...", end=" ", flush=True)
        try:
            seconds = build(part)
        except BuildError as error:
            print("failed", flush=True)
            sys.exit(str(error))
        print(f"built in {seconds:.0f} s" if seconds else "is there", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
