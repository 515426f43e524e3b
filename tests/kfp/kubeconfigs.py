"""Kubeconfigs whose users log in as clouds have it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
_PLUGIN = """\
#!{python}
import json, pathlib, sys
here = pathlib.Path({folder!r})
with open(here / "calls", "a") as calls:
    calls.write("called\\n")
if (here / "broken").exists():
    sys.exit((here / "broken").read_text())
status = {{"token": (here / "token").read_text(), **{extra!r}}}
credential = {{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}
print(json.dumps(credential))
"""


class Plugin:
    """A login plugin: it prints the token that stands in a file, and says when that runs out."""

    def __init__(self, folder: Path, token: str, expires: str | None = None, name: str = "plugin") -> None:
        self._folder = folder
        self.file = folder / name
        extra = {"expirationTimestamp": expires} if expires else {}
        self.file.write_text(_PLUGIN.format(python=sys.executable, folder=str(folder), extra=extra))
        self.file.chmod(0o755)
        self.token = token

    @property
    def token(self) -> str:
        return (self._folder / "token").read_text()

    @token.setter
    def token(self, token: str) -> None:
        (self._folder / "token").write_text(token)

    @property
    def calls(self) -> int:
        return len((self._folder / "calls").read_text().splitlines())

    def fail(self, words: str) -> None:
        """From now on it says these words on standard error, and fails."""
        (self._folder / "broken").write_text(words)

    def user(self) -> Json:
        return plugin_user(self.file)


def plugin_user(command: Path | str, **more: Any) -> Json:
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(command), "args": ["get"], **more}}


def write_kubeconfig(folder: Path, server: str, user: Json, ca: Path | None = None) -> Path:
    cluster: Json = {"server": server} | ({"certificate-authority": str(ca)} if ca else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "me", "user": user}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file
