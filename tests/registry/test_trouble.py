"""A registry in trouble: what lasts is told at once with its remedy, what may pass is waited for, and that is shown."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric, Param

from endcap.cli.main import main
from endcap.client_faults import find_page_title
from endcap.errors import EndcapError, IntegrityError, TransientError, UserError
from endcap.features import build
from endcap.progress import Notice
from endcap.registry import Registry, connection, get_default_uri
from endcap.registry.experiments import ensure_experiment, ensure_run
from endcap.retries import RetryLimits, send_wait_lines
from endcap.store import Store
from endcap.training import train
from tests.cluster.certificates import Authority
from tests.features.logs import sessions, shop, snapshot
from tests.refusals import refused
from tests.registry.server import running_mlflow
from tests.store.proxy import Fault, Proxy, proxy
from tests.store.servers import S3Place, moto
from tests.training.test_steps import GRU, LOG, make_recommender

AT_ONCE = 30.0
"""Seconds that trouble that lasts may take to be told, on a machine that is busy; MLflow's own client takes 270."""
LOGIN = "<!DOCTYPE html><html><head><title>Sign in to Acme</title></head><body>…</body></html>"
PAGE = {"content-type": "text/html; charset=utf-8"}
TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
ALL = ".*"


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Iterator[str]:
    with running_mlflow(tmp_path_factory.mktemp("mlflow"), empty_registry) as address:
        yield address


@pytest.fixture
def way(mlflow: str) -> Iterator[Proxy]:
    """A way to the server, on which things happen."""
    with proxy(mlflow) as state:
        yield state


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> RetryLimits:
    """A second and a half, each wait of which is shown."""
    short = RetryLimits(total=1.5, first=0.05, most=0.2, silent=0.0)
    monkeypatch.setattr(connection, "PATIENCE", short)
    monkeypatch.setattr(connection, "LOOKUP_WAITS", (0.0,))
    return short


def answer(status: int, body: str, headers: dict[str, str], request: str = ALL) -> Fault:
    return Fault(request, "answer", 1000, status=status, body=body, headers=headers)


ANSWERS: dict[str, tuple[list[Fault], str, dict[str, Any]]] = {
    "a wrong password": ([answer(401, "You are not authenticated.", TEXT)], "unauthorized", {"status": 401}),
    "a gateway that wants a token": ([answer(401, '{"message": "no"}', JSON)], "unauthorized", {"status": 401}),
    "an account without the right": ([answer(403, "Permission denied", TEXT)], "forbidden", {"status": 403}),
    "MLflow's own denial": (
        [answer(403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', JSON)],
        "forbidden",
        {"status": 403},
    ),
    "a login page": ([answer(200, LOGIN, PAGE)], "login-page", {"title": "Sign in to Acme", "status": 200}),
    "a redirect to a login page": (
        [answer(200, LOGIN, PAGE, "GET /login"), answer(302, "", {"location": "/login?next=%2F"})],
        "login-page",
        {"title": "Sign in to Acme"},
    ),
    "a login that sends in a circle": ([answer(302, "", {"location": "/again"})], "login-page", {"title": ""}),
    "a path that is none of MLflow's": ([answer(404, "<html>no</html>", PAGE)], "no-api", {"status": 404}),
    "an older server": (
        [answer(404, '{"error_code": "ENDPOINT_NOT_FOUND", "message": "no"}', JSON)],
        "no-api",
        {"status": 404},
    ),
    "a port that wants TLS": (
        [answer(400, "<title>plain HTTP on an HTTPS port</title>", PAGE)],
        "no-api",
        {"status": 400},
    ),
    "another server": ([answer(200, "pong", TEXT)], "no-api", {"status": 200}),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_will_not_change_are_raised_at_once(way: Proxy, case: str) -> None:
    faults, code, fields = ANSWERS[case]
    way.faults += faults
    registry, shown, begun = Registry(way.endpoint), list[str](), time.monotonic()
    with send_wait_lines(shown.append), refused(UserError, f"registry.{code}", registry=way.endpoint, **fields):
        registry.list_names()
    assert time.monotonic() - begun < AT_ONCE
    assert shown == []


def test_a_host_name_that_the_server_refuses_is_reported_with_the_option(mlflow: str) -> None:
    assert Registry(mlflow).list_names() == []
    host = mlflow.removeprefix("http://").replace("127.0.0.1", "localhost")
    with refused(UserError, "registry.host-refused", host=host, variable="MLFLOW_SERVER_ALLOWED_HOSTS") as caught:
        Registry(f"http://{host}").list_names()
    assert f"--allowed-hosts {host}" in str(caught.value)


def test_a_certificate_of_another_name_and_a_missing_file_are_reported_at_once(
    mlflow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused(UserError, "registry.no-tls"):
        Registry(mlflow.replace("http:", "https:")).list_names()
    pair = Authority(tmp_path).issue("mlflow", "mlflow", hosts=("mlflow.example.com",))
    with proxy(mlflow, (pair.certificate, pair.key)) as secure:
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "ca.crt"))
        with refused(UserError, "registry.no-tls", registry=secure.endpoint):
            Registry(secure.endpoint).list_names()
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "none.crt"))
        with refused(UserError, "registry.certificates-not-found", registry=secure.endpoint):
            Registry(secure.endpoint).list_names()


def test_a_port_with_another_protocol_is_reported_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            caller, _ = other.accept()
            with caller:
                caller.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                caller.recv(10_000)

        threading.Thread(target=greet, daemon=True).start()
        with refused(UserError, "registry.no-api", status=0):
            Registry(f"http://127.0.0.1:{other.getsockname()[1]}").list_names()


def test_a_server_that_is_busy_is_asked_again_and_the_waiting_is_shown(way: Proxy, patience: RetryLimits) -> None:
    way.faults.append(Fault(ALL, "answer", 2, status=503))
    registry, shown = Registry(way.endpoint), list[str]()
    with send_wait_lines(shown.append):
        assert registry.list_names() == []
    notice, end = shown
    assert isinstance(notice, Notice)
    assert notice.fields == {"reason": "it answers 503", "limit": 1.5}
    assert "answers again" in end
    assert len(way.seen) == 3


def test_a_server_that_does_not_listen_is_waited_for_until_the_patience_ends(patience: RetryLimits) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        registry, shown, begun = Registry(address), list[str](), time.monotonic()
        with (
            send_wait_lines(shown.append),
            refused(TransientError, "registry.unreachable", reason="connection refused"),
        ):
            registry.list_names()
    assert patience.total - patience.most < time.monotonic() - begun < patience.total + AT_ONCE
    assert len(shown) == 1


@pytest.mark.slow
def test_a_request_whose_answer_was_lost_creates_one_object(way: Proxy, patience: RetryLimits) -> None:
    registry = Registry(way.endpoint)
    for call in ("experiments/create", "runs/create", "registered-models/create", "model-versions/create"):
        way.faults.append(Fault(f"POST .*/{call}", "answer", 1, status=503))  # nothing was done
        way.faults.append(Fault(f"POST .*/{call}", "lose", 1))
    way.faults.append(Fault("POST .*/runs/log-batch", "lose", 1))
    experiment = ensure_experiment(registry, "lost")
    run, new = ensure_run(registry, experiment, "tags.x = 'y'", tags={"x": "y"})
    version = registry.add_version("lost", "s3://bucket/packages/lost/1", "approved", "a test", {})
    registry.client.log_batch(run.info.run_id, metrics=[Metric("loss", 1.0, 1, 1)], params=[Param("a", "b")])
    assert way.done
    assert len(registry.client.get_metric_history(run.info.run_id, "loss")) == 1
    assert not new  # it was met by looking again
    assert (version.version, version.aliases) == ("1", ["champion"])
    assert len(registry.client.search_runs([experiment])) == 1
    assert [one.version for one in registry.list_versions("lost")] == ["1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Place]:
    """A store in a bucket, whose registry is a server."""
    with moto() as server:
        monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / "cache"))
        yield S3Place(server, tmp_path, monkeypatch)


def listed(place: S3Place, registry: str) -> list[str]:
    return ["registry", "list", "--store", place.url, "--registry", registry, "--json", "nobody"]


def test_story_of_a_wrong_password(place: S3Place, way: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends at once with 2 and names the variables; with them right it lists."""
    way.faults.append(Fault(ALL, "answer", 1, status=401, body="You are not authenticated.", headers=TEXT))
    begun = time.monotonic()
    with pytest.raises(SystemExit, match="2"):
        main(listed(place, way.endpoint))
    assert time.monotonic() - begun < AT_ONCE
    told = capsys.readouterr()
    assert '"code": "registry.unauthorized"' in told.out
    assert "MLFLOW_TRACKING_PASSWORD" in told.err
    assert main(listed(place, way.endpoint)) is None
    assert json.loads(capsys.readouterr().out)["versions"] == []


def test_story_of_a_private_ca(
    place: S3Place, mlflow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends at once with 2 and names the variable; with the authority's file in it, it lists."""
    pair = Authority(tmp_path / "ca").issue("mlflow", "mlflow", hosts=("127.0.0.1",))
    with proxy(mlflow, (pair.certificate, pair.key)) as secure:
        begun = time.monotonic()
        with pytest.raises(SystemExit, match="2"):
            main(listed(place, secure.endpoint))
        assert time.monotonic() - begun < AT_ONCE
        told = capsys.readouterr()
        assert '"code": "registry.no-tls"' in told.out
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in told.err
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "ca" / "ca.crt"))
        assert main(listed(place, secure.endpoint)) is None
        assert json.loads(capsys.readouterr().out)["versions"] == []


def test_a_run_ends_before_its_first_step_where_the_password_is_wrong(
    place: S3Place, way: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENDCAP_DEMO", str(tmp_path))
    way.faults.append(answer(401, "You are not authenticated.", TEXT))
    begun = time.monotonic()
    with pytest.raises(SystemExit, match="2"):
        main(["run", "demo", "--store", place.url, "--registry", way.endpoint])
    assert time.monotonic() - begun < 2 * AT_ONCE
    assert "[registry.unauthorized]" in capsys.readouterr().err
    assert not [name for name in place.names() if name.startswith("runs/")]


def test_a_training_ends_before_it_begins_where_the_password_is_wrong(place: S3Place, way: Proxy) -> None:
    store = place.elsewhere()
    dataset = build(shop(), snapshot(store, sessions(LOG)), store)
    way.faults.append(answer(401, "You are not authenticated.", TEXT))
    lines, begun = list[str](), time.monotonic()
    with refused(UserError, "registry.unauthorized"):
        train(make_recommender({"name": "sequential-rules"}), dataset, store, way.endpoint, progress=lines.append)
    assert time.monotonic() - begun < 2 * AT_ONCE
    assert [line for line in lines if line.startswith("fitting")] == []


def test_a_registry_that_is_away_delays_no_training_and_is_reported_once(place: S3Place, way: Proxy) -> None:
    store = place.elsewhere()
    dataset = build(shop(), snapshot(store, sessions(LOG)), store)
    way.faults.append(Fault(ALL, "drop", 1000))
    lines, begun = list[str](), time.monotonic()
    with send_wait_lines(lines.append):
        trained = train(
            make_recommender({"name": "sequential-rules"}), dataset, store, way.endpoint, progress=lines.append
        )
    assert store.manifest(trained)["facts"]["model"]["name"] == "sequential-rules"
    assert time.monotonic() - begun < 2 * AT_ONCE
    assert len([line for line in lines if "cannot be logged for now" in line]) == 1
    assert len([line for line in lines if isinstance(line, Notice)]) == 1  # the evaluate step writes it


def test_a_token_that_runs_out_ends_no_training(place: S3Place, way: Proxy) -> None:
    store = place.elsewhere()
    dataset = build(shop(), snapshot(store, sessions(LOG)), store)
    lines = list[str]()

    def hear(line: str) -> None:
        if line.startswith("fitting"):
            way.faults.append(answer(401, "The token has expired.", TEXT))
        lines.append(line)

    trained = train(make_recommender(GRU), dataset, store, way.endpoint, progress=hear)
    assert store.manifest(trained)["facts"]["history"]
    assert len([line for line in lines if "cannot be logged for now" in line]) == 1
    assert len([line for line in lines if isinstance(line, Notice)]) == 1


def test_errors_of_sqlite_are_reported_with_their_remedy(
    shop_store: Store, tmp_path: Path, patience: RetryLimits
) -> None:
    (tmp_path / "other.db").write_bytes(b"no data base" * 100)
    with refused(IntegrityError, "registry.damaged"):
        Registry(f"sqlite:///{tmp_path}/other.db")
    file = Path(get_default_uri(shop_store).removeprefix("sqlite:///"))
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'cafe00000000'")
    with refused(UserError, "registry.other-schema"):
        Registry(get_default_uri(shop_store)).list_names()


@pytest.mark.parametrize(
    ("address", "kind", "code"),
    [
        ("postgresql+psycopg://u:p@127.0.0.1:9/mlflow", TransientError, "registry.unreachable"),
        ("postgresql+pg8000://u:p@127.0.0.1:9/mlflow", UserError, "registry.no-driver"),
    ],
)
def test_a_data_base_that_cannot_be_opened_is_named_without_its_password(
    address: str, kind: type[EndcapError], code: str, patience: RetryLimits
) -> None:
    begun = time.monotonic()
    with refused(kind, code) as caught:
        Registry(address)
    assert time.monotonic() - begun < patience.total + AT_ONCE
    assert "u:p@" not in str(caught.value)


def test_a_page_is_known_from_an_answer() -> None:
    assert find_page_title(LOGIN) == "Sign in to Acme"
    assert find_page_title("<!-- x --><html></html>") == ""
    assert find_page_title('{"html": "<html>"}') is None
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
