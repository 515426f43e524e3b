"""A KFP on loopback, and a client that looks often."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap_pipelines.kfp import Server

from .server import Kfp


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kfp]:
    """A KFP without runs; nothing of this machine's own settings is used."""
    for name in ("KFP_ENDPOINT", "KF_PIPELINES_ENDPOINT", "KFP_EXISTING_TOKEN", "KFP_NAMESPACE", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Server, "interval", 0.02)
    monkeypatch.setattr(Server, "patience", 1.0)
    with Kfp() as server:
        yield server
