"""What an access policy may say, and what becomes of one that cannot be used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from endcap.errors import StorageError, UserError
from endcap_serving.gateway.access.policy import RANKINGS, read_policy
from endcap_serving.gateway.access.policy_file import CHECK_INTERVAL, PolicyFile
from endcap_serving.gateway.access.settings import make_local_settings, parse_access, require_access
from tests.access.credentials import hash_key, make_client, make_policy

K = f"'{hash_key('k')}'"
WRONG = {
    "no YAML": b"clients: [",
    "not a mapping": b"- a",
    "an unknown key": b"anonymus: [rank]",
    "an unknown scope": b"anonymous: [all]",
    "a plain key": b"clients: [{name: web, keys: [secret], scopes: [rank]}]",
    "one key of two": f"clients: [{{name: a, keys: [{K}], scopes: []}}, {{name: b, keys: [{K}], scopes: []}}]",
    "one name of two": b"clients: [{name: a, keys: [], scopes: []}, {name: a, keys: [], scopes: []}]",
    "an alias": b"anonymous: &a [rank]\nclients: [{name: a, keys: [], scopes: *a}]",
    "no audience": b"issuers: [{issuer: a, audiences: [], jwks: {uri: 'https://a/b'}}]",
    "keys nowhere": b"issuers: [{issuer: a, audiences: [b], jwks: {}}]",
    "a symmetric key": b"issuers: [{issuer: a, audiences: [b], jwks: {keys: [{kty: oct, k: c2VjcmV0}]}}]",
    "a private key": b"issuers: [{issuer: a, audiences: [b], jwks: {keys: [{kty: RSA, n: AQAB, e: AQAB, d: AQAB}]}}]",
    "half a key": b"issuers: [{issuer: a, audiences: [b], jwks: {keys: [{kty: RSA, n: AQAB}]}}]",
    "a port that is none": b"issuers: [{issuer: a, audiences: [b], jwks: {uri: 'https://a:99999/b'}}]",
    "a password": b"issuers: [{issuer: a, audiences: [b], jwks: {uri: 'https://me:secret@a/b'}}]",
    "a line break": b"issuers: [{issuer: \"a\\nb\", audiences: [b], jwks: {uri: 'https://a/b'}}]",
    "a file's address": b"issuers: [{issuer: a, audiences: [b], jwks: {uri: 'file:///etc/passwd'}}]",
    "too much": b"#" * (1 << 21),
    "bytes": b"\xff\xfe\x00",
    "a date": b"clients: 2026-01-01",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_policy_is_refused_without_repeating_its_values(text: bytes | str) -> None:
    with pytest.raises(UserError) as raised:
        read_policy(text.encode() if isinstance(text, str) else text)
    assert raised.value.code == "access.policy-invalid"
    assert "secret" not in str(raised.value)


def test_a_file_that_becomes_invalid_leaves_the_last_valid_policy(tmp_path: Path) -> None:
    file, now = tmp_path / "access.yaml", [0.0]
    source = PolicyFile(file, clock=lambda: now[0])

    def look() -> object:
        now[0] += CHECK_INTERVAL
        return source.policy

    assert (look(), source.error and source.error.code) == (None, "access.policy-unreadable")
    file.write_text("anonymous: [rank, all]")
    assert (look(), source.error and source.error.code) == (None, "access.policy-invalid")
    file.write_text("anonymous: [rank]")
    assert (look(), source.error) == (RANKINGS, None)
    file.write_text("anonymous: [rank, events]")
    assert source.policy == RANKINGS, "it is looked at once a second"
    good = look()
    for spoil in (lambda: file.write_text("{"), file.unlink):
        spoil()
        assert look() == good
        assert source.error is not None
    file.write_text("anonymous: []")
    assert (look(), source.error) == (make_policy(), None)


@pytest.mark.parametrize(
    ("host", "anonymous", "hosts"),
    [
        ("127.0.0.1", 4, ("localhost", "127.0.0.1", "[::1]", "shop.local")),
        ("::1", 4, ("localhost", "127.0.0.1", "[::1]", "shop.local")),
        ("0.0.0.0", 1, ("localhost", "127.0.0.1", "[::1]", "shop.local")),
        ("192.168.0.7", 1, ("localhost", "127.0.0.1", "[::1]", "shop.local")),
    ],
)
def test_beyond_loopback_nobody_gets_more_than_rankings(host: str, anonymous: int, hosts: tuple[str, ...]) -> None:
    access = require_access(
        make_local_settings(host, None, parse_access(["https://shop.example.com"], ["shop.local"], "5:10"))
    )
    assert (len(access.policy.anonymous), access.hosts, access.origins) == (
        anonymous,
        hosts,
        ("https://shop.example.com",),
    )
    assert require_access(make_local_settings(host)).hosts == (hosts[:3] if anonymous == 4 else ())


def test_wrong_options_and_policies_are_refused_at_the_start(tmp_path: Path) -> None:
    for origins, hosts, rate in ((["shop.example.com"], [], ""), ([], ["a:80"], ""), ([], [], "5"), ([], [], "0:1")):
        with pytest.raises(UserError) as raised:
            parse_access(origins, hosts, rate)
        assert raised.value.code == "access.option-invalid"
    with pytest.raises(StorageError) as missing:
        require_access(make_local_settings("127.0.0.1", tmp_path / "none.yaml"))
    assert missing.value.code == "access.policy-unreadable"


def test_the_guides_policy_and_key_are_right() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    known = read_policy(text.encode())
    assert ([client.name for client in known.clients], len(known.issuers)) == (["web", "analyst"], 1)
    (command,) = re.findall(r'^python -c "(.*)"$', guide, re.MULTILINE)
    made = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    assert made[1] == hash_key(made[0])


def test_a_policy_with_clients_has_credentials() -> None:
    assert not make_policy(anonymous=["rank"]).has_credentials
    assert make_policy(clients=[make_client("web")]).has_credentials
