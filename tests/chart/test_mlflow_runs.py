"""MLflow's server as the chart starts it, for real: on PostgreSQL, with the address and the arguments of its pod."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from endcap_serving.local.predictors import find_free_port
from tests.chart.conftest import Objects

PASSWORD, ENCODED = "p@ss/w%rd", "p%40ss%2Fw%25rd"


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database of Debian's PostgreSQL, with a password that has to be encoded."""
    programs_found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs_found:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql")
    programs = programs_found[-1].parent
    # It refuses to run as root.
    who = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = (
        Path("/tmp") / f"endcap-postgresql-{os.getpid()}"
    )  # A path that its own user may walk, and short for a socket.
    folder.mkdir(mode=0o700)
    if who:
        shutil.chown(folder, "postgres")
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    data, port = folder / "data", find_free_port()
    make = [programs / "initdb", "--pgdata", data, "--username=mlflow", "--auth=scram-sha-256", "--no-sync"]
    server = None
    try:
        subprocess.run([*make, f"--pwfile={password}"], check=True, capture_output=True, cwd="/", **who)
        run = [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-c", "fsync=off"]
        server = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **who)
        yield f"postgresql://mlflow:{ENCODED}@127.0.0.1:{port}/postgres"
    finally:
        if server:
            server.terminate()
            server.wait()
        shutil.rmtree(folder)


@pytest.mark.slow
def test_it_serves_from_postgresql_by_the_names_that_it_may(
    render: Callable[..., Objects], database: str, tmp_path: Path
) -> None:
    values = {"mlflow": {"backend": {"type": "postgresql", "postgresql": {"existingSecret": "s"}}, "workers": 1}}
    pod = render(values).one("Deployment", "endcap-mlflow")["spec"]["template"]["spec"]
    upgrade, server = pod["initContainers"][0], pod["containers"][0]
    variables = {one["name"]: one.get("value", database) for one in server["env"]}
    environment = {**os.environ, **variables, "HOME": str(tmp_path)}
    port = find_free_port()
    # What differs from the pod: the address it listens on, and where the volume is.
    arguments = [
        word for word in server["args"] if word.partition("=")[0] not in ("--host", "--port", "--artifacts-destination")
    ]
    arguments += ["--host=127.0.0.1", f"--port={port}", f"--artifacts-destination={tmp_path}"]
    program = [sys.executable, "-m", "mlflow"]
    upgrading = [sys.executable, *upgrade["command"][1:], *upgrade["args"]]
    subprocess.run(upgrading, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=200)

    words = [*program, *server["command"][1:], *arguments]
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(words, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        here = f"http://127.0.0.1:{port}"
        wait_for(f"{here}/health", running, tmp_path / "log")
        name = {"name": "demo"}
        inside = {"host": "endcap-mlflow.endcap.svc.cluster.local:5000"}
        api = f"{here}/api/2.0/mlflow"
        httpx.post(f"{api}/registered-models/create", json=name, headers=inside).raise_for_status()
        version = {**name, "source": "s3://endcap/store/packages/demo/1"}
        reply = httpx.post(f"{api}/model-versions/create", json=version, headers=inside).raise_for_status().json()
        assert reply["model_version"]["version"] == "1"
        assert httpx.post(f"{api}/registered-models/create", json=name, headers={"host": "evil"}).status_code == 403
    finally:
        running.terminate()
        running.wait(60)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())
