"""A KFP on loopback, and a client that looks often."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap_pipelines import kfp_calls
from endcap_pipelines.kfp import KfpServer
from tests.kfp.server import Kfp


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kfp]:
    """A KFP without runs; nothing of this machine's own settings is used."""
    for name in [name for name in os.environ if name.startswith(("KFP_", "KF_PIPELINES_"))] + ["KUBECONFIG"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(KfpServer, "interval", 0.02)
    monkeypatch.setattr(kfp_calls, "PAUSES", (0.01, 0.02, 0.04, 0.08))
    monkeypatch.setattr(KfpServer, "patience", 1.0)
    with Kfp() as server:
        yield server
