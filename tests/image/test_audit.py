"""What `make audit` refuses: licences that the policy does not name, and pins that a data base knows a flaw of."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT

HASH = "0" * 64
LOCK = f"flawed==1.0 --hash=sha256:{HASH}\nsound==2.0 --hash=sha256:{HASH}\n"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "serving" / "image" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def database() -> Iterator[str]:
    """A data base that speaks OSV's protocol and knows one flaw."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["content-length"])))
            flaw = {"id": "PYSEC-2026-1", "details": "a flaw", "aliases": ["CVE-2026-1"], "affected": []}
            known = [flaw] if question["package"]["name"] == "flawed" else []
            body = json.dumps({"vulns": known} if known else {}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


def component(*declared: dict[str, Any]) -> dict[str, Any]:
    return {"name": "thing", "version": "1", "licenses": list(declared)}


@pytest.mark.parametrize(
    ("declared", "refused"),
    [
        ([{"license": {"id": "MIT"}}], False),
        ([{"expression": "GPL-3.0-only OR MIT"}], False),
        ([{"expression": "Apache-2.0 WITH LLVM-exception"}], False),
        ([{"license": {"name": "License :: OSI Approved :: BSD License"}}], False),
        ([{"expression": "GPL-3.0-only AND MIT"}], True),
        ([{"license": {"id": "MIT"}}, {"license": {"id": "GPL-3.0-only"}}], True),
        ([{"license": {"name": "as you (like) it"}}], True),
        ([], True),
    ],
)
def test_every_licence_must_be_allowed(audit: ModuleType, declared: list[dict[str, Any]], refused: bool) -> None:
    policy = json.loads((ROOT / "serving" / "image" / "audit.json").read_text())
    assert bool(audit.refused_licences([component(*declared)], policy)) is refused
    exception = {**policy, "exceptions": {"th*": "a reason"}}
    assert not audit.refused_licences([component(*declared)], exception)


def test_a_pin_with_a_known_flaw_is_named_unless_it_is_accepted(
    audit: ModuleType, database: str, tmp_path: Path
) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(LOCK)
    (line,) = audit.find_vulnerabilities(lock, database, tmp_path / "flaws.json", [])
    assert line.startswith("flawed 1.0: PYSEC-2026-1 CVE-2026-1")
    assert audit.find_vulnerabilities(lock, database, tmp_path / "flaws.json", ["PYSEC-2026-1"]) == []


def test_what_could_not_be_looked_up_is_not_taken_for_sound(audit: ModuleType, database: str, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(LOCK)
    # The port that discards: nobody listens there.
    assert audit.find_vulnerabilities(lock, "http://127.0.0.1:9/v1/query", tmp_path / "flaws.json", []) is None
    lock.write_text("flawed>=1.0\n")
    with pytest.raises(RuntimeError):
        audit.find_vulnerabilities(lock, database, tmp_path / "flaws.json", [])
