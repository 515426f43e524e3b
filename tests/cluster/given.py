"""The cluster of a test session, whoever started it, and the few things that tests do with it by hand."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.build import BUILD, build, program, why_not
from tests.cluster.control_plane import ControlPlane
from tests.cluster.keeper import Keeper
from tests.cluster.object_store import ObjectStore


@dataclass
class Cluster:
    """A cluster and its administrator's kubeconfig. `plane` and `store` are None where KUBECONFIG gave the cluster."""

    kubeconfig: Path
    plane: ControlPlane | None = None
    store: ObjectStore | None = None

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return self._run("kubernetes", "kubectl", arguments, stdin, check)

    def helm(self, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._run("helm", "helm", arguments, stdin, check)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """One object."""
        return dict(json.loads(self.kubectl("-n", namespace, "get", kind, name, "-o", "json").stdout))

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a namespace, or of none, that carry these labels."""
        where = ("-n", namespace) if namespace else ()
        said = self.kubectl(*where, "get", kind, "-l", selector, "-o", "json").stdout
        return list(json.loads(said)["items"])

    def apply(self, *objects: dict[str, Any], namespace: str) -> None:
        """Server-side apply, as a person with kubectl."""
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("-n", namespace, "apply", "--server-side", "-f", "-", stdin=listed)

    def needs(self, *crds: str) -> None:
        """Skip the test where the cluster does not define these, for example routes.serving.knative.dev."""
        for crd in crds:
            if self.kubectl("get", "crd", crd, check=False).returncode:
                pytest.skip(f"the cluster does not define {crd}")

    def simulated(self) -> bool:
        """Whether nodes are KWOK's, on which no image is pulled and no container runs."""
        versions = [node["status"]["nodeInfo"]["kubeletVersion"] for node in self.list("nodes")]
        return all(version.startswith(("kwok", "fake")) for version in versions)

    def restart_api_server(self) -> None:
        """Kill the API server and start it again; returns when it is ready. Skips on a cluster that is not ours."""
        self._own("killing the API server").restart_api_server()

    def kill_api_server(self) -> None:
        """Kill the API server; `restart_api_server` brings it back."""
        self._own("killing the API server").kill_api_server()

    def _own(self, what: str) -> ControlPlane:
        if self.plane is None:
            pytest.skip(f"{what} is for a control plane of the tests' own: unset KUBECONFIG")
        return self.plane

    def _run(
        self, part: str, name: str, arguments: tuple[str, ...], stdin: str | None, check: bool
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [_command(part, name), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )
        if check and done.returncode:
            raise AssertionError(
                f"{name} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done


def _command(part: str, name: str) -> str:
    """The pinned program, or where there is no Go the one on the PATH."""
    if why_not() is None:
        build(part)
        return str(program(part, name))
    if found := shutil.which(name):
        return found
    pytest.skip(f"there is neither `go` to build {name} nor {name} on the PATH")


@contextmanager
def defined_cluster(crd: str, read: Callable[[], list[dict[str, Any]]]) -> Iterator[Cluster]:
    """A cluster that knows a kind, and no operator for it.

    crd: the kind's full name. read: reads its definition, for a cluster of the tests' own.
    """
    if given := os.environ.get("KUBECONFIG"):
        there = Cluster(Path(given))
        there.needs(crd)
        yield there
        return
    if reason := why_not():
        pytest.skip(reason)
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"test-{os.getpid()}-", dir=BUILD))
    keeper = Keeper(folder / "logs")
    try:
        for part in ("kubernetes", "etcd", "kwok"):
            build(part)
        plane = ControlPlane(folder, keeper)
        plane.start((), 1)
        plane.define(read())
        yield Cluster(plane.kubeconfig, plane)
    finally:
        keeper.end()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def own_namespace(cluster: Cluster, name: str) -> Iterator[str]:
    """A namespace that did not exist before and does not exist afterwards. `name` tells whose it is."""
    made = f"endcap-{name[:30].strip('-')}-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", made)
    try:
        yield made
    finally:
        if cluster.plane is None:
            cluster.kubectl("delete", "namespace", made, "--timeout=300s")
        else:
            # Ours ends with the session: wait until the next test has the GPUs, not for all the rest to go.
            cluster.kubectl("delete", "namespace", made, "--wait=false")
            eventually(lambda: not cluster.list("pods", made))


def eventually(look: Callable[[], Any], patience: float = 90.0) -> Any:
    """Call `look` until it neither raises AssertionError nor returns a false value; what it returned."""
    deadline = time.monotonic() + patience
    while True:
        try:
            if seen := look():
                return seen
            said = f"it is still {seen!r}"
        except (AssertionError, KeyError, IndexError) as error:
            said = f"{type(error).__name__}: {error}"
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:.0f} s: {said}")
        time.sleep(0.3)
