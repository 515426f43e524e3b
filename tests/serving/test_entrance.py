"""MLflow's real server behind TLS and a login, as the chart starts it, asked by the registry's own client."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from endcap.errors import UserError
from endcap.registry import Registry
from endcap.secrets import MOUNT
from endcap_serving.gateway import login_proxy
from endcap_serving.local.predictors import find_free_port
from tests.cluster.certificates import Authority
from tests.refusals import refused
from tests.registry.server import running_mlflow
from tests.serving.conftest import running
from tests.serving.mounted import Mounted
from tests.serving.pod import wait_for


@dataclass
class Front:
    address: str
    users: Path
    authority: Authority
    mounted: Mounted
    context: ssl.SSLContext

    def status(self, path: str, *login: str) -> int:
        auth = httpx.BasicAuth(*login) if login else None
        return httpx.get(f"{self.address}{path}", auth=auth, verify=self.context, timeout=20).status_code


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Iterator[Front]:
    folder, port = tmp_path_factory.mktemp("front"), find_free_port()
    authority = Authority(folder / "ca")
    mounted = Mounted(folder / "tls", authority.issue("mlflow", "mlflow", hosts=("127.0.0.1",)), authority)
    users = folder / "users"
    users.mkdir()
    (users / "pipelines").write_text("s3cret pass\n")
    (folder / "mlflow").mkdir()
    with running_mlflow(folder / "mlflow", empty_registry) as plain:
        words = ["--host", "127.0.0.1", "--port", str(port), "--to", plain.rpartition(":")[2], "--open", "/health"]
        words += ["--tls", str(mounted.folder), "--users", str(users), "--secrets", str(folder / "sds")]
        command = [sys.executable, "-m", "endcap_serving.gateway.login_proxy", *words]
        with running(command, folder / "front.log"):
            context = ssl.create_default_context(cafile=str(authority.certificate))
            made = Front(f"https://127.0.0.1:{port}", users, authority, mounted, context)
            wait_for(lambda: is_up(made), (folder / "front.log").read_text(), 90)
            yield made


def is_up(made: Front) -> bool:
    try:
        return made.status("/health") == 200
    except httpx.TransportError:
        return False


def test_a_login_is_required_and_may_change(mlflow: Front) -> None:
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert mlflow.status(search) == 401
    assert mlflow.status("/health/..%2fapi/2.0/mlflow/experiments/search?max_results=1") in (401, 404)
    assert mlflow.status(search, "pipelines", "other") == 401
    assert mlflow.status(search, "pipelines", "s3cret pass") == 200
    (mlflow.users / "ann").write_text("another")
    wait_for(lambda: mlflow.status(search, "ann", "another") == 200, "a new user comes in")
    (mlflow.users / "ann").unlink()
    wait_for(lambda: mlflow.status(search, "ann", "another") == 401, "and goes")
    assert mlflow.status(search, "pipelines", "s3cret pass") == 200


def test_the_registry_logs_in_with_the_keys_of_the_stores_secret(
    mlflow: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        # So that what the connection sets goes with the test.
        monkeypatch.setenv(name, "")
    with refused(UserError, "registry.no-tls"):
        Registry(mlflow.address).list_names()
    (tmp_path / "mlflow-ca.crt").write_bytes(mlflow.authority.certificate.read_bytes())
    monkeypatch.setenv(MOUNT, str(tmp_path))
    with refused(UserError, "registry.unauthorized"):
        Registry(mlflow.address).list_names()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "pipelines")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret pass\n")
    registry = Registry(mlflow.address)
    assert registry.list_names() == []
    renewed = mlflow.authority.issue("mlflow-again", "mlflow", hosts=("127.0.0.1",))
    mlflow.mounted.put(renewed, mlflow.authority)
    assert registry.list_names() == []


@pytest.mark.slow
def test_a_secret_without_users_is_refused(tmp_path: Path) -> None:
    given = login_proxy.parse_arguments(
        ["--port", "1", "--to", "2", "--users", str(tmp_path), "--secrets", str(tmp_path / "sds")]
    )
    with refused(UserError, "serving.no-users", folder=str(tmp_path)):
        login_proxy.build_listener(given)
