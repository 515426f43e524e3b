"""The training pipeline's train step, killed on one node and tried again on another, as KFP's retry does.

The command is the compiled package's own, the store is in a bucket, and nothing else is shared between the two.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap.features import build
from endcap.runs.record import read_step_document
from endcap.store import Store
from tests.features.logs import recommender, sessions, shop, snapshot
from tests.store.servers import S3Place, Server, moto

pytestmark = pytest.mark.slow
PACKAGE = Path(__file__).parents[2] / "pipelines" / "compiled" / "training.yaml"
LOG = " ".join(["abcab", "xyzxy"] * 9 + ["abcan", "xyzxn"])
EPOCHS = 150
"""A second or more of training: the first is killed before."""
SPEC = recommender(
    model={"name": "gru4rec", "width": 8, "batch_size": 4, "negatives": 4, "max_epochs": EPOCHS, "patience": EPOCHS},
    split={"by": "time", "test": 0.1, "validation": 0.2},
    refit=False,
)
SHORT_WAITS = "from endcap.store import lease, mirror\nlease.LEASE_SECONDS, mirror.POLL_SECONDS = 3.0, 0.1\n"
"""A dead holder is waited for so long instead of half a minute, and a checkpoint is looked for so often."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


def test_a_killed_train_step_goes_on_on_another_node_to_the_same_model(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHORT_WAITS)
    whole, place = (S3Place(server, tmp_path / name, monkeypatch) for name in ("whole", "cut"))
    with Pod(whole, tmp_path / "at-once") as at_once:
        with Pod(place, tmp_path / "first") as first:
            first.kill_after_its_first_checkpoint()
        store = place.elsewhere()
        assert store.list("trained/test") == []
        with Pod(place, tmp_path / "second") as second:
            trained = second.result()
        resumption = re.search(r"^going on after epoch (\d+)$", second.read_log(), re.MULTILINE)
        assert resumption is not None, second.read_log()
        epochs = re.findall(r"^epoch (\d+)/", second.read_log(), re.MULTILINE)
        assert (int(epochs[0]), int(epochs[-1])) == (int(resumption[1]) + 1, EPOCHS)
        assert read_learnt(store, trained) == read_learnt(whole.elsewhere(), at_once.result())
    document = read_step_document(store, "a-run", "train")
    assert document is not None
    assert (document["state"], document["result"]) == ("done", trained)
    assert place.left() == set()


class Pod:
    """The step's process, with a cache of its own."""

    def __init__(self, place: S3Place, folder: Path) -> None:
        folder.mkdir()
        self._place, self._told, self._log = place, folder / "told.json", folder / "log"
        store = place.elsewhere()
        parameters = {
            "recommender": SPEC.model_dump(mode="json", exclude_none=True),
            "dataset": build(shop(), snapshot(store, sessions(LOG)), store),
            "store": store.root,
            "run": "a-run",
        }
        outputs = {"parameters": {"Output": {"outputFile": str(folder / "output")}}, "outputFile": str(self._told)}
        executor_input = json.dumps({"inputs": {"parameterValues": parameters}, "outputs": outputs})
        package = next(iter(yaml.safe_load_all(PACKAGE.read_text())))
        container = package["deploymentSpec"]["executors"]["exec-train"]["container"]
        words = [*container["command"], *container["args"]]
        environment = place.environment() | {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(folder.parent),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [executor_input if word == "{{$}}" else word for word in words],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def _kill(self) -> None:
        """All of it at once, as a node that goes away: the shell and what it runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_after_its_first_checkpoint(self) -> None:
        limit = time.monotonic() + 60
        while not self._place.checkpoints():
            assert self.process.poll() is None, f"it ended before the bucket had a checkpoint: {self.read_log()}"
            assert time.monotonic() < limit, self.read_log()
            time.sleep(0.02)
        self._kill()
        assert self.process.returncode == -signal.SIGKILL, "it had ended before"

    def read_log(self) -> str:
        return self._log.read_text()

    def result(self) -> str:
        """What the step returned."""
        assert self.process.wait(timeout=60) == 0, self.read_log()
        return str(json.loads(self._told.read_text())["parameterValues"]["Output"])


def read_learnt(store: Store, trained: str) -> dict[str, Any]:
    """The model's files by content, and the losses of all epochs."""
    manifest = store.manifest(trained)
    return {"files": manifest["files"], "losses": [row["loss"] for row in manifest["facts"]["history"]]}
