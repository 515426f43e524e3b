"""A kubeconfig's login plugin: a program that prints a token, as EKS, GKE and AKS have it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import PurePath
from typing import IO, Any

from endcap.errors import UserError

Json = dict[str, Any]
LOGINS = {
    "aws": "aws sso login",
    "aws-iam-authenticator": "aws sso login",
    "gke-gcloud-auth-plugin": "gcloud auth login",
    "gcloud": "gcloud auth login",
    "kubelogin": "az login",
    "az": "az login",
}
"""The command that logs in again, by the plugin's program."""


def run_plugin(plugin: Mapping[str, Any], folder: str | None = None, cluster: Json | None = None) -> Json:
    """The credential that the plugin prints: the `status` of its ExecCredential.

    Parameters
    ----------
    plugin
        The kubeconfig's `users[].user.exec`.
    folder
        Where the kubeconfig lies, which relative paths count from.
    cluster
        What a plugin is told of the cluster that asks for it (`provideClusterInfo`).

    Raises
    ------
    UserError
        There is no such program (`cluster.no-login-plugin`), or it fails or prints no credential
        (`cluster.login-failed`).
    """
    command = [str(plugin["command"]), *(str(word) for word in plugin.get("args") or [])]
    terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
    interactive = terminal and plugin.get("interactiveMode") != "Never"
    spec = {"interactive": interactive} | ({"cluster": cluster} if cluster and plugin.get("provideClusterInfo") else {})
    own = {str(entry["name"]): str(entry["value"]) for entry in plugin.get("env") or []}
    request = {"apiVersion": plugin.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
    try:
        process = subprocess.Popen(
            command,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder or None,
            env={**os.environ, **own, "KUBERNETES_EXEC_INFO": json.dumps(request)},
            text=True,
            errors="replace",
        )
    except OSError as error:
        hint = f" {plugin['installHint'].strip()}" if plugin.get("installHint") else ""
        raise UserError(
            f"the kubeconfig's login plugin {command[0]} cannot be started ({error.strerror}). Install it, and put it "
            f"on PATH.{hint}",
            code="cluster.no-login-plugin",
            command=command,
            reason=str(error.strerror),
        ) from None
    with process:
        printed, words = _read(process, echo=interactive)
    if process.returncode:
        raise failed_login(command, f"exit code {process.returncode}: {words.strip() or 'it says nothing'}")
    try:
        status = json.loads(printed)["status"]
    except (ValueError, TypeError, KeyError):
        status = None
    if not isinstance(status, dict) or not (status.get("token") or status.get("clientCertificateData")):
        # What it printed may hold a credential, and is not shown.
        raise failed_login(command, f"it printed no credential: {words.strip() or 'and it says nothing'}")
    return status


def failed_login(command: list[str], reason: str) -> UserError:
    """The error of a login that gave no credential. command: the program that was called."""
    again = LOGINS.get(PurePath(command[0]).name)
    remedy = f"log in by `{again}`" if again else "log in as it says"
    return UserError(
        f"the kubeconfig's login `{' '.join(command)}` failed ({reason}). To mend it: {remedy}, then try again",
        code="cluster.login-failed",
        command=command,
        reason=reason,
        login=again,
    )


def _read(process: subprocess.Popen[str], *, echo: bool) -> tuple[str, str]:
    """Standard output, and standard error. echo: show the latter as it comes, since it may say where to log in."""
    assert process.stdout is not None
    assert process.stderr is not None
    words: list[str] = []

    def listen(pipe: IO[str]) -> None:
        for line in pipe:
            words.append(line)
            if echo:
                sys.stderr.write(line)
                sys.stderr.flush()

    listener = threading.Thread(target=listen, args=(process.stderr,), daemon=True)
    listener.start()
    printed = process.stdout.read()
    listener.join()
    return printed, "".join(words)
