"""The login of a kubeconfig: a plugin's token is renewed, and what a plugin cannot do is said in its words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.cluster import connect
from endcap.cluster.kinds import POD
from endcap.errors import UserError
from tests.cluster_client.fake_api_server import Server, api_server, pod
from tests.kfp.kubeconfigs import Plugin, plugin_user, write_kubeconfig
from tests.refusals import refused


@pytest.fixture
def server() -> Iterator[Server]:
    with api_server() as running:
        running.say(200, pod("a", "1"), times=4)
        yield running


def kubeconfig(folder: Path, server: Server, user: Any) -> str:
    return str(write_kubeconfig(folder, f"http://127.0.0.1:{server.port}", user))


def test_a_plugins_token_is_sent_and_renewed_before_it_runs_out(server: Server, tmp_path: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    plugin = Plugin(tmp_path, "first", soon)
    cluster = connect(kubeconfig(tmp_path, server, plugin.user()))
    for token in ("first", "second"):
        plugin.token = token
        cluster.get(POD, "a", "shop")
    assert [headers["authorization"] for headers in server.headers] == ["Bearer first", "Bearer second"]
    assert {path for _, path, _ in server.requests} == {"/api/v1/namespaces/shop/pods/a"}


def test_a_token_that_lasts_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, "good", "2199-01-01T00:00:00Z")
    cluster = connect(kubeconfig(tmp_path, server, plugin.user()))
    for _ in range(3):
        cluster.get(POD, "a", "shop")
    assert plugin.calls == 1


@pytest.mark.parametrize(
    ("name", "words", "login"),
    [
        ("aws", "Error loading SSO Token: Token for shop does not exist", "aws sso login"),
        ("gke-gcloud-auth-plugin", "Reauthentication required.", "gcloud auth login"),
        ("kubelogin", "AADSTS700082: The refresh token has expired", "az login"),
        ("of-the-shop", "ask Ann", None),
    ],
)
def test_a_plugin_that_fails_is_told_in_its_words_with_the_login_that_helps(
    server: Server, tmp_path: Path, name: str, words: str, login: str | None
) -> None:
    plugin = Plugin(tmp_path, "good", name=name)
    plugin.fail(words)
    with refused(UserError, "cluster.login-failed", login=login, reason=f"exit code 1: {words}"):
        connect(kubeconfig(tmp_path, server, plugin.user()))
    assert server.requests == []


def test_a_plugin_that_is_not_installed_is_named_with_its_hint(server: Server, tmp_path: Path) -> None:
    user = plugin_user("gke-gcloud-auth-plugin-x", installHint="Install it by gcloud components install")
    with refused(UserError, "cluster.no-login-plugin", command=["gke-gcloud-auth-plugin-x", "get"]) as caught:
        connect(kubeconfig(tmp_path, server, user))
    assert "gcloud components install" in str(caught.value)


def test_what_a_plugin_prints_in_place_of_a_credential_is_not_shown(server: Server, tmp_path: Path) -> None:
    (tmp_path / "plugin").write_text("#!/bin/sh\necho hunter2\n")
    (tmp_path / "plugin").chmod(0o755)
    with refused(UserError, "cluster.login-failed") as caught:
        connect(kubeconfig(tmp_path, server, plugin_user("./plugin")))
    assert "hunter2" not in str(caught.value.to_json())


@pytest.mark.parametrize("text", ["{", "users: 3", "", "current-context: here"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    with refused(UserError, "cluster.kubeconfig-unusable", path=str(file)):
        connect(str(file))
