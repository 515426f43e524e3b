"""How KFP is reached: by kubeconfig with each kind of login, over TLS, with tokens that run out, behind login pages."""

from __future__ import annotations

import http.server
import re
import shlex
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.cli.main import main
from tests.cli.printed_errors import find_code
from tests.cluster.certificates import Authority
from tests.kfp.handler import PROXY
from tests.kfp.kubeconfigs import Plugin, plugin_user, write_kubeconfig
from tests.kfp.server import Kfp, Scene, scene
from tests.kfp.test_run import GOOD, SPEC

RUNNING = scene("RUNNING", {"ingest": "RUNNING"})


@pytest.fixture
def behind(kfp: Kfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kfp:
    """Reached through the API server of its cluster, which lets the token `good` in."""
    kfp.prefix, kfp.token, kfp.scenes = PROXY, "good", [RUNNING, GOOD]
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return kfp


def follow_run(run: str, *arguments: str) -> None:
    main(["run", SPEC, "--on", "kfp", *arguments, "--follow", run])


def follow_to_failure(capsys: pytest.CaptureFixture[str], run: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, the error's code, and what was said."""
    with pytest.raises(SystemExit) as stopped:
        follow_run(run, *arguments)
    output = capsys.readouterr().err
    return int(stopped.value.code or 0), find_code(output), output


def turning(change: Any) -> Scene:
    """A run that goes on while something changes."""

    def look(run: str) -> dict[str, Any]:
        change()
        return RUNNING(run)

    return look


class TestByKubeconfig:
    """The way through the API server's proxy keeps its path with each kind of login."""

    @pytest.mark.parametrize("kind", ["token", "tokenFile", "plugin", "password", "oidc"])
    def test_a_run_is_followed(self, behind: Kfp, tmp_path: Path, kind: str) -> None:
        (tmp_path / "word").write_text("good\n")
        users: dict[str, Any] = {
            "token": {"token": "good"},
            "tokenFile": {"tokenFile": "word"},
            "plugin": Plugin(tmp_path, "good").user(),
            "password": {"username": "me", "password": "good"},
            "oidc": {"auth-provider": {"name": "oidc", "config": {"id-token": "e30.e30.good"}}},
        }
        behind.token = {"password": None, "oidc": "e30.e30.good"}.get(kind, "good")
        write_kubeconfig(tmp_path, behind.url, users[kind])
        follow_run(behind.start())

    def test_a_whole_run_is_started_there_over_tls(
        self, behind: Kfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority = Authority(tmp_path / "ca")
        with Kfp(authority.issue("server", "api", hosts=("127.0.0.1",))) as safe:
            safe.prefix, safe.token, safe.scenes = PROXY.replace("kubeflow", "ml"), "good", [RUNNING, GOOD]
            write_kubeconfig(tmp_path, safe.url, Plugin(tmp_path, "good").user(), authority.certificate)
            main(["run", SPEC, "--on", "kfp", "--kfp-namespace", "ml"])
            assert len(safe.runs) == 1

    def test_a_plugin_is_called_again_where_its_token_runs_out(self, behind: Kfp, tmp_path: Path) -> None:
        soon = (datetime.now(UTC) + timedelta(seconds=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
        plugin = Plugin(tmp_path, "good", soon)
        write_kubeconfig(tmp_path, behind.url, plugin.user())

        def rotate() -> None:
            behind.token = plugin.token = "better"

        behind.scenes = [turning(rotate), RUNNING, GOOD]
        follow_run(behind.start())
        assert plugin.calls > 2

    @pytest.mark.parametrize("kind", ["plugin", "tokenFile"])
    def test_a_token_that_is_refused_is_renewed_once(self, behind: Kfp, tmp_path: Path, kind: str) -> None:
        """Of a plugin that does not say when it runs out, and of a file that somebody writes anew."""
        plugin = Plugin(tmp_path, "good")
        write_kubeconfig(tmp_path, behind.url, plugin.user() if kind == "plugin" else {"tokenFile": "token"})

        def rotate() -> None:
            behind.token = plugin.token = "better"

        behind.scenes = [turning(rotate), RUNNING, RUNNING, GOOD]
        follow_run(behind.start())
        assert kind == "tokenFile" or plugin.calls == 2

    def test_a_login_that_fails_while_a_run_is_followed_ends_the_following_alone(
        self, behind: Kfp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plugin = Plugin(tmp_path, "good", name="aws")
        write_kubeconfig(tmp_path, behind.url, plugin.user())

        def expire() -> None:
            behind.token = "better"
            plugin.fail("Error when retrieving token from sso: Token has expired and refresh failed")

        run, behind.scenes = behind.start(), [turning(expire), GOOD]
        code, name, output = follow_to_failure(capsys, run)
        assert (code, name) == (1, "kfp.token-expired")
        assert "Token has expired and refresh failed" in output
        assert "`aws sso login`" in output
        assert f"--follow {run}" in output

    @pytest.mark.parametrize(
        ("user", "code"),
        [
            (plugin_user("no-such-plugin", installHint="brew install it"), "cluster.no-login-plugin"),
            (plugin_user("/bin/false"), "cluster.login-failed"),
            (plugin_user("/bin/echo"), "cluster.login-failed"),
            ({"token": "bad"}, "kfp.forbidden"),
        ],
    )
    def test_a_login_that_does_not_work_is_told_before_anything_is_sent(
        self, behind: Kfp, tmp_path: Path, capsys: pytest.CaptureFixture[str], user: Any, code: str
    ) -> None:
        write_kubeconfig(tmp_path, behind.url, user)
        assert follow_to_failure(capsys, behind.start())[:2] == (2, code)
        assert len(behind.requests) == (code == "kfp.forbidden")


class TestTokens:
    """A token that runs out: the run goes on, and how to follow it is said."""

    def test_a_token_of_the_command_line_is_not_shown_and_the_commands_work_with_another(
        self, kfp: Kfp, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def expire() -> None:
            kfp.token = "new-word"

        kfp.token, kfp.scenes = "secret-word", [turning(expire), GOOD]
        token = ["--kfp-token", "secret-word", "--kfp-host", kfp.url, "--set", "seed=3", "--kfp-namespace", "ml"]
        monkeypatch.setattr("sys.argv", ["endcap", "run", SPEC, "--on", "kfp", *token])
        with pytest.raises(SystemExit) as stopped:
            main()
        output = capsys.readouterr()
        assert (stopped.value.code, find_code(output.err)) == (1, "kfp.token-expired")
        assert "secret-word" not in output.out + output.err
        assert "KFP_EXISTING_TOKEN" in output.err
        commands = dict(re.findall(r"^  (follow|end): +endcap (.*)$", output.err, re.MULTILINE))
        assert "--set seed=3" in commands["follow"]
        monkeypatch.setenv("KFP_EXISTING_TOKEN", "new-word\n")
        main(shlex.split(commands["follow"]))
        main(shlex.split(commands["end"]))
        assert kfp.runs[0]["state"] == "CANCELED"
        assert len(kfp.runs) == 1

    def test_a_token_file_is_read_anew(self, kfp: Kfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "token"
        file.write_text("good\n")
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))

        def rotate() -> None:
            kfp.token = "better"
            file.write_text("better\n")

        kfp.token, kfp.scenes = "good", [turning(rotate), RUNNING, GOOD]
        follow_run(kfp.start(), "--kfp-host", kfp.url)

    def test_who_may_not_look_from_the_start_is_refused(self, kfp: Kfp, capsys: pytest.CaptureFixture[str]) -> None:
        kfp.token = "good"
        assert follow_to_failure(capsys, kfp.start(), "--kfp-host", kfp.url, "--kfp-token", "x")[:2] == (
            2,
            "kfp.forbidden",
        )


class TestPages:
    """A page in place of an answer: of a proxy that wants a login, or of something else."""

    def test_a_login_page_is_told_at_once_and_a_token_or_cookies_pass_it(
        self, kfp: Kfp, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kfp.token, kfp.login_page, kfp.scenes, run = "good", True, [GOOD], kfp.start()
        code, name, output = follow_to_failure(capsys, run, "--kfp-host", kfp.url)
        assert (code, name) == (2, "kfp.login-page")
        assert "Log in to dex" in output
        assert len(kfp.requests) == 2
        follow_run(run, "--kfp-host", kfp.url, "--kfp-token", "good")
        monkeypatch.setenv("KFP_COOKIES", "session=good")
        follow_run(run, "--kfp-host", kfp.url)

    def test_one_that_comes_while_a_run_is_followed_is_a_login_that_ran_out(
        self, kfp: Kfp, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def expire() -> None:
            kfp.token = "other"

        kfp.token, kfp.login_page, kfp.scenes = "good", True, [turning(expire), GOOD]
        monkeypatch.setenv("KFP_COOKIES", "session=good")
        assert follow_to_failure(capsys, kfp.start(), "--kfp-host", kfp.url)[:2] == (1, "kfp.token-expired")

    @pytest.fixture
    def website(self, tmp_path: Path) -> Iterator[str]:
        """Something else that speaks HTTP."""

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *words: Any) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()

    def test_what_is_not_kfp_is_told(self, kfp: Kfp, website: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert follow_to_failure(capsys, "x", "--kfp-host", website)[:2] == (2, "kfp.not-kfp")


class TestConnection:
    """A certificate that is not trusted, and a KFP that is busy."""

    def test_a_private_authority_is_named_by_an_option(
        self, kfp: Kfp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
        with Kfp(authority.issue("server", "kfp", hosts=("127.0.0.1",))) as safe:
            safe.scenes, begun = [GOOD], time.monotonic()
            for wrong in ([], ["--kfp-ca", str(other.certificate)]):
                assert follow_to_failure(capsys, "x", "--kfp-host", safe.url, *wrong)[:2] == (2, "kfp.certificate")
            assert time.monotonic() - begun < 60
            assert safe.requests == []
            follow_run(safe.start(), "--kfp-host", safe.url, "--kfp-ca", str(authority.certificate))
        assert follow_to_failure(capsys, "x", "--kfp-host", kfp.url.replace("http", "https"))[:2] == (
            2,
            "kfp.certificate",
        )

    def test_that_it_waits_is_shown(self, kfp: Kfp, capsys: pytest.CaptureFixture[str]) -> None:
        kfp.trouble = [("healthz", 503), ("terminate", 500), ("terminate", 429)]
        main(["run", SPEC, "--on", "kfp", "--kfp-host", kfp.url, "--end", kfp.start()])
        assert capsys.readouterr().err.count("asking again") == 3
