"""The container engines that a machine may have, as `endcap image` uses them to build, to push and to read a digest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from endcap.errors import EndcapError, UserError

# Each command succeeds only if the engine works: docker's client alone cannot build.
PROBES = {
    "docker": ["docker", "version", "--format", "{{.Server.Version}}"],
    "podman": ["podman", "version"],
    "buildah": ["buildah", "version"],
}


def find_engine(engine: str | None = None) -> str:
    """Choose the engine: the given one, or the first that works. Raises UserError with each engine's reply."""
    replies = []
    for name in [engine] if engine else PROBES:
        if shutil.which(name) is None:
            replies.append(f"{name}: not installed")
            continue
        probe = subprocess.run(PROBES[name], capture_output=True, text=True, timeout=60, check=False)
        if probe.returncode == 0:
            return name
        lines = (probe.stderr or probe.stdout).strip().splitlines() or [f"ended with status {probe.returncode}"]
        replies.append(f"{name}: {lines[0]}")
    raise UserError(
        "no container engine works here:\n"
        + "\n".join(f"  {line}" for line in replies)
        + "\ninstall or start docker, podman or buildah. Or build on another machine: --print writes the Dockerfile, "
        "--context keeps the build context",
        code="cli.no-container-engine",
        tried=replies,
    )


def build_image(engine: str, context: Path, tag: str) -> None:
    """Build the context's Dockerfile. The engine's output goes to standard error."""
    _run(engine, "build", "--tag", tag, "--file", str(context / "Dockerfile"), str(context))


def push_image(engine: str, tag: str) -> str:
    """Push, and return `repository@sha256:…` as the registry knows it."""
    repository = tag.rpartition(":")[0]
    if engine == "docker":
        _run(engine, "push", tag)
        shown = _read_output(engine, "image", "inspect", "--format", "{{json .RepoDigests}}", tag)
        for known in json.loads(shown):
            name, _, digest = known.partition("@")
            # Docker leaves out its own hub's prefix.
            if repository.removeprefix("docker.io/").removeprefix("library/") == name:
                return f"{repository}@{digest}"
        raise EndcapError(
            f"{tag} is pushed, but docker does not give its digest in {repository}, only {shown}",
            code="cli.no-digest",
            image=tag,
        )
    with tempfile.NamedTemporaryFile("r") as file:
        _run(engine, "push", "--digestfile", file.name, tag)
        return f"{repository}@{file.read().strip()}"


def _run(*command: str) -> None:
    # Standard output is for the digest, which scripts read.
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise EndcapError(
            f"`{' '.join(command[:2])}` failed; its output is above",
            code="cli.engine-failed",
            command=list(command[:2]),
        )


def _read_output(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise EndcapError(
            f"`{' '.join(command)}` failed: {run.stderr.strip()}",
            code="cli.engine-failed",
            command=list(command),
            stderr=run.stderr.strip(),
        )
    return run.stdout.strip()
