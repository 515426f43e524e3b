"""No secret is in a message, a record, a log or a command line, and none is misread because of how it was written."""

from __future__ import annotations

import ast
import importlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from endcap.addresses import split_server
from endcap.cli.main import COMMANDS, main
from endcap.cli.reachability import check_addresses
from endcap.errors import TransientError, UserError
from endcap.messages.addresses import VARIABLE
from endcap.online import open_online, resolve_online_url
from endcap.output_redaction import redact_output
from endcap.registry import check_address, open_registry, resolve_registry_url
from endcap.retries import disable_retries
from endcap.secrets import AWS, KFP, MLFLOW, clean_variables
from endcap.sources.bigquery.client import CREDENTIALS
from endcap.spec.environments import VARIABLES, resolve
from endcap.store import open_store
from endcap.store.s3_settings import CAS, ENDPOINTS, REGIONS, read_s3_settings
from endcap_pipelines.kfp import connect as connect_to_kfp
from tests.online.servers import RedisServer
from tests.refusals import refused
from tests.secrets_given import ENCODED, PLANTED, RAW, error_of

ROOT = Path(__file__).parents[1]
SOURCES = ("endcap", "serving", "components", "pipelines")
S3 = {"ENDCAP_S3_ENDPOINT": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": PLANTED}
BUCKET: Any = SimpleNamespace(root="s3://shop/store")
"""As far as a registry looks at a store in a bucket."""


# Variables, as files and people leave them


@pytest.mark.parametrize("around", ["", "\n", "\r\n", " \n", "\t"])
def test_what_a_file_leaves_around_a_secret_is_no_part_of_it(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDCAP_ONLINE", "ENDCAP_REGISTRY", "PASSWORD"):
        monkeypatch.setenv(name, f"{around}redis://:{PLANTED}@h{around}")
    assert resolve_online_url() == resolve_registry_url() == f"redis://:{PLANTED}@h"
    places = resolve(None)
    assert places.online == places.registry == f"redis://:{PLANTED}@h"
    settings = read_s3_settings({name: f"{around}{value}{around}" for name, value in S3.items()})
    assert (settings.endpoint, settings.access_key, settings.secret_key) == ("http://127.0.0.1:1", "key", PLANTED)


def test_a_line_break_inside_is_refused_by_the_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_ONLINE", f"redis://:{PLANTED}\n{PLANTED}@h")
    for call in (resolve_online_url, lambda: resolve(None)):
        error = error_of(call)
        assert (error.code, error.fields) == ("secrets.control-character", {"variable": "ENDCAP_ONLINE"})
    monkeypatch.setenv(
        "MLFLOW_TRACKING_TOKEN", f"{PLANTED}\x00{PLANTED}" if os.name == "nt" else f"{PLANTED}\t{PLANTED}"
    )
    assert error_of(lambda: clean_variables(MLFLOW)).fields["variable"] == "MLFLOW_TRACKING_TOKEN"
    error = error_of(lambda: read_s3_settings({**S3, "AWS_SECRET_ACCESS_KEY": f"{PLANTED}\n{PLANTED}"}))
    assert error.fields["variable"] == "AWS_SECRET_ACCESS_KEY"


def test_mlflow_is_shown_a_token_without_the_line_break_that_its_secret_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{PLANTED}\r\n")
    with _server() as (address, headers):
        assert open_registry(address, BUCKET).list_names() == []
    assert {of_request["Authorization"] for of_request in headers} == {f"Bearer {PLANTED}"}


def test_kfp_is_shown_a_token_without_the_line_break_that_its_secret_has() -> None:
    with _server() as (address, headers):
        connect_to_kfp(host=address, token=f"{PLANTED}\n").end("r")
    assert {of_request["Authorization"] for of_request in headers} == {f"Bearer {PLANTED}"}


def test_variables_that_may_hold_a_secret_are_read_in_one_place() -> None:
    """Elsewhere they would be read with their line breaks."""
    secret = {
        *AWS,
        *MLFLOW,
        *KFP,
        *CAS,
        *ENDPOINTS,
        *REGIONS,
        "KFP_EXISTING_TOKEN",
        "KFP_COOKIES",
        VARIABLE,
        CREDENTIALS,
    }
    secret |= {name for names in VARIABLES.values() for name in names}
    elsewhere = [
        f"{file.relative_to(ROOT)}:{node.lineno} {name}"
        for file, tree in _trees()
        for node in ast.walk(tree)
        if (name := _variable_read(node, file)) in secret
    ]
    assert elsewhere == []


# Addresses


@pytest.mark.parametrize("password", [RAW, "a/b", "a?b", "a#b", "a@b", "a%b", "a%zz", "a[b", "x y", "a:b/"])
@pytest.mark.parametrize("scheme", ["redis", "rediss", "postgresql", "http"])
def test_a_password_is_read_as_it_is_or_refused_and_never_read_in_part(scheme: str, password: str) -> None:
    with pytest.raises(ValueError, match=r"as %2F|a blank") as refused_address:
        split_server(f"{scheme}://:{password}@host:6379/0")
    assert password not in str(refused_address.value)


def test_a_password_of_any_letters_is_written_by_their_numbers(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", RAW) as server:
        address = f"redis://:{{}}@127.0.0.1:{server.port}/1"
        with open_online(address.format(ENCODED), shop="shop", timeout=5) as store:
            store.ping()
        for wrong in (f"{PLANTED}-wrong", PLANTED):
            error = error_of(lambda wrong=wrong: open_online(address.format(wrong), shop="shop", timeout=5).ping())
            assert error.code == "online.credentials-refused"
        assert error_of(lambda: open_online(address.format(RAW), shop="shop")).code == "online.address-malformed"


@pytest.mark.parametrize(
    ("address", "option"),
    [
        ("redis://h?socket_timout=5", "socket_timout"),
        ("redis://h?socket_timeout=5", "socket_timeout"),
        ("redis://h?retry_on_timeout=true", "retry_on_timeout"),
        ("redis://h?db=x", "db"),
        ("redis://h/x", "the data base"),
        ("redis://h/1?db=2", "db"),
        ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("rediss://h?ssl_cert_reqs=never", "ssl_cert_reqs"),
        ("rediss://h?ssl_ca_certs=/no/file", "ssl_ca_certs"),
    ],
)
def test_an_option_of_an_online_store_is_known_or_refused_by_name(address: str, option: str) -> None:
    with refused(UserError, "online.address-malformed", option=option):
        open_online(address, shop="shop")


def test_what_an_online_stores_address_may_say_is_heeded() -> None:
    store: Any = open_online("rediss://me:pass%2Fword@[::1]:7/2?ssl_cert_reqs=none&client_name=endcap", shop="shop")
    said = store._redis.connection_pool.connection_kwargs
    assert (said["host"], said["port"], said["db"], said["username"], said["password"]) == (
        "::1",
        7,
        2,
        "me",
        "pass/word",
    )
    assert (said["ssl_cert_reqs"], said["client_name"], said["socket_timeout"]) == ("none", "endcap", 0.05)


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (f"foo://me:{PLANTED}@host/x", "registry.address-malformed"),
        (f"me:{PLANTED}@host", "registry.address-malformed"),
        ("sqlite:///x.db?nonsense=1", "registry.address-malformed"),
        ("sqlite:///x.db?timeout=soon", "registry.address-malformed"),
        (f"postgresql://me:{RAW}@host/db", "registry.address-malformed"),
        (f"postgresql://me:{PLANTED}@host:port/db", "registry.address-malformed"),
        (f"postgresql://me:{PLANTED}@host/db?nonsense={PLANTED}", "registry.address-malformed"),
        (f"http://me:{RAW}@host", "registry.address-malformed"),
        (f"http://host:{PLANTED}", "registry.address-malformed"),
        ("http://[::1", "registry.address-malformed"),
        ("http://", "registry.address-malformed"),
        ("mlflow.db", "registry.address-malformed"),
        (f"postgresql+nothing://me:{PLANTED}@host/db", "registry.no-driver"),
        (f"mysql+nothing://me:{PLANTED}@host/db", "registry.no-driver"),
    ],
)
def test_a_registry_that_mlflow_could_not_even_try_is_refused_at_once(address: str, code: str) -> None:
    assert error_of(lambda: open_registry(address, BUCKET)).code == code


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////a@b/mlflow.db",
        "sqlite:////a/mlflow.db?timeout=20",
        f"postgresql://me:{ENCODED}@host:5432/db?sslmode=require",
        f"https://me:{ENCODED}@host/prefix",
        "http://mlflow:5000",
        "databricks",
    ],
)
def test_a_registrys_address_that_can_be_tried_is_let_through(address: str) -> None:
    check_address(address)


# Clients that meet nobody, or a refusal


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"ENDCAP_S3_ENDPOINT": f"https://key:{PLANTED}@s3"}, "store.endpoint-malformed"),
        ({"ENDCAP_S3_ENDPOINT": f"key:{RAW}@s3:9000"}, "store.endpoint-malformed"),
        ({"ENDCAP_S3_ENDPOINT": f"https://:{PLANTED}@s3"}, "store.endpoint-malformed"),
        ({"ENDCAP_S3_ENDPOINT": "https://s4.amazonaws.com"}, "store.endpoint-malformed"),
        ({"AWS_REGION": "eu central"}, "store.region-malformed"),
        ({"AWS_SECRET_ACCESS_KEY": f"{PLANTED}ü"}, "store.key-malformed"),
        ({"ENDCAP_S3_CA": __file__}, "store.certificates-unreadable"),
        ({}, "store.unreachable"),
    ],
)
def test_a_store_says_what_is_wrong_and_shows_no_key(
    wrong: dict[str, str], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (S3 | wrong).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("endcap.store.bucket.RETRY_WAITS", ())
    assert error_of(lambda: open_store("s3://bucket/x").find("a", "b")).code == code


@pytest.mark.parametrize("address", [f"s3://key:{PLANTED}@bucket/x", f"s3://key:{RAW}@bucket/x"])
def test_a_stores_address_has_no_place_for_keys(address: str) -> None:
    assert error_of(lambda: open_store(address)).code == "store.bucket-name"


@pytest.mark.parametrize(
    ("place", "code"),
    [
        (f"http://me:{PLANTED}@127.0.0.1:{{port}}", "kfp.password-shown"),
        (f"http://me:{RAW}@127.0.0.1:{{port}}", "kfp.host-malformed"),
        (f"http://127.0.0.1:{PLANTED}", "kfp.host-malformed"),
        ("ftp://127.0.0.1", "kfp.host-malformed"),
        ("http://127.0.0.1:{port}", "kfp.unreachable"),
    ],
)
def test_kfps_address_and_token_are_not_shown(place: str, code: str) -> None:
    assert error_of(lambda: connect_to_kfp(host=place.format(port=_closed()), token=PLANTED)).code == code


@pytest.mark.parametrize("address", [f"http://me:{ENCODED}@127.0.0.1:{{port}}", "http://127.0.0.1:{port}"])
def test_a_registrys_server_that_is_away_is_named_without_credentials(
    address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PLANTED)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    with disable_retries():
        error = error_of(lambda: open_registry(address.format(port=_closed()), BUCKET).list_names())
    assert isinstance(error, TransientError)
    assert PLANTED not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"store": f"s3://key:{PLANTED}@bucket/x"}, "store.bucket-name"),
        ({"online": f"redis://:{PLANTED}@redis"}, "cli.password-shown"),
        ({"online": f"redis://redis?password={PLANTED}"}, "cli.password-shown"),
        ({"online": f"redis://:{RAW}@redis"}, "online.address-malformed"),
        ({"registry": f"http://me:{PLANTED}@mlflow"}, "cli.password-shown"),
        ({"registry": f"http://mlflow?token={PLANTED}"}, "cli.password-shown"),
        ({"registry": f"http://me:{RAW}@mlflow"}, "registry.address-malformed"),
        ({"registry": f"postgresql://me:{PLANTED}@db/x"}, "cli.unreachable-from-cluster"),
    ],
)
def test_nothing_secret_becomes_a_parameter_of_a_run_on_kfp(changed: dict[str, str], code: str) -> None:
    assert error_of(lambda: check_addresses({"store": "s3://bucket/x", **changed})).code in (code, "cli.password-shown")


def test_a_run_on_kfp_may_leave_the_registry_to_a_secret() -> None:
    check_addresses({"store": "s3://bucket/x", "registry": "", "online": "redis://redis"})


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--registry", f"foo://me:{PLANTED}@db"],
        ["registry", "list", "--registry", f"postgresql://me:{RAW}@db/x"],
        ["runs", "--store", f"s3://key:{PLANTED}@bucket"],
        ["run", "trial", "--online", f"redis://:{RAW}@redis"],
        ["run", "trial", "--registry", f"postgresql://me:{PLANTED}@db:x/y"],
        ["run", "trial", "--on", "kfp", "--store", "s3://b/x", "--registry", f"http://me:{PLANTED}@m"],
        ["run", "trial", "--on", "kfp", "--store", "s3://bucket/x", "--kfp-host", f"http://me:{PLANTED}@127.0.0.1:1"],
        ["recommend", "trial", "--online", f"redis://h?socket_timout={PLANTED}"],
    ],
)
def test_a_command_that_fails_shows_no_secret_on_either_stream(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENDCAP_TRACEBACK", "1")
    spec = [str(ROOT / "pipelines" / "specs" / "trial.yaml") if word == "trial" else word for word in words]
    with pytest.raises(SystemExit) as ended:
        main([*spec, *(["--json"] if words[0] in ("status", "registry", "runs") else [])])
    assert ended.value.code == 2
    said = capfd.readouterr()
    assert "error:" in said.err
    assert PLANTED not in said.out + said.err


def test_a_traceback_that_is_wanted_shows_no_secret_of_the_error_below(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        try:
            raise RuntimeError(f"cannot reach postgresql://me:{PLANTED}@db")
        except RuntimeError as error:
            raise UserError("it is away", code="registry.fails") from error

    monkeypatch.setitem(sys.modules, "failing", SimpleNamespace(command=click.command()(fail)))
    monkeypatch.setitem(COMMANDS, "fail", ("failing", ""))
    monkeypatch.setenv("ENDCAP_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        main(["fail"])
    said = capfd.readouterr().err
    assert "RuntimeError: cannot reach postgresql://…@db" in said
    assert PLANTED not in said


def test_what_libraries_print_has_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    import logging
    import warnings

    redact_output()
    address = f"redis://:{PLANTED}@redis"
    warnings.simplefilter("always")
    logging.getLogger("some.library").warning("cannot reach %s", address)
    sys.stderr.write(warnings.formatwarning(address, UserWarning, "file", 1))
    sys.excepthook(RuntimeError, RuntimeError(address), None)
    thread = threading.Thread(target=lambda: open_online(address, shop="shop", timeout="x"), name="t")  # type: ignore[arg-type]
    thread.start()
    thread.join()
    threading.excepthook(threading.ExceptHookArgs((RuntimeError, RuntimeError(address), None, thread)))
    said = capfd.readouterr().err
    assert said.count("redis://…@redis") >= 3
    assert PLANTED not in said


# The machinery of this file


@contextmanager
def _server() -> Iterator[tuple[str, list[Any]]]:
    """A server that answers everything with an empty object, and the headers of what it was asked."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append(self.headers)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            serving.join()


def _closed() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(path for name in SOURCES for path in (ROOT / name).rglob("*.py")):
        if "environ" in (text := file.read_text(encoding="utf-8")) or "getenv" in text:
            yield file, ast.parse(text)


def _variable_read(node: ast.AST, file: Path) -> str | None:
    """The variable that an expression reads out of `os.environ` or `os.getenv`, if that is what it does."""
    if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
        named = node.args[0]
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == "os.environ":
        named = node.slice
    else:
        return None
    if isinstance(named, ast.Constant):
        return str(named.value)
    rooms = {"serving": "endcap_serving", "components": "endcap_components", "pipelines": "endcap_pipelines"}
    first, *rest = file.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join([rooms.get(first, first), *rest]).removesuffix(".__init__"))
    return getattr(module, ast.unparse(named), None) if isinstance(named, ast.Name) else None
