"""GRU4Rec, SASRec and NeuMF beside RecBole's: how long each trains until it ranks as well as RecBole's ever does.

RecBole needs older versions of torch and numpy, so it runs in an environment of its own: make one with recbole,
torch<2.6 and numpy<2, and give the path of its python as ENDCAP_RECBOLE. RecBole's settings are its own defaults, ours
are the specs'. MovieLens 100K, each user's last-but-one event wanted after all before it (the last one is not looked
at), the whole catalogue ranked; items seen are left out for NeuMF and stay for the others, as RecBole has it. Both on
two threads. RecBole's models train for ENDCAP_RECBOLE_SECONDS each, 600 unless told otherwise.
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models import Fitting, Model, Validation, make
from endcap.spec.model import ModelSpec
from endcap.spec.neural import GRU4RecSpec, NeuMFSpec, SASRecSpec

DATA = Path(__file__).parents[3] / "shared" / "data" / "ml100k" / "ml-100k.inter.xz"
THREADS = 2
CUTOFF = 10
CASES: list[tuple[str, ModelSpec]] = [
    ("GRU4Rec", GRU4RecSpec(max_epochs=60, patience=60)),
    ("SASRec", SASRecSpec(max_epochs=60, patience=60)),
    ("NeuMF", NeuMFSpec(max_epochs=60, patience=60)),
]
THEIRS = """
import json, sys, time
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

name, folder, seconds, threads = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
config = Config(model=name, dataset="ml-100k", config_dict={
    "data_path": folder, "checkpoint_dir": folder, "show_progress": False, "use_gpu": False, "seed": 1,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    "metrics": ["NDCG"], "topk": [10], "valid_metric": "NDCG@10",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    **({} if name == "NeuMF" else {"train_neg_sample_args": None}),
})
init_seed(1, True)
dataset = create_dataset(config)
train, valid, _ = data_preparation(config, dataset)
model = get_model(name)(config, train.dataset)
trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
spent, epoch = 0.0, 0
while spent < seconds:
    begun = time.monotonic()
    trainer._train_epoch(train, epoch, show_progress=False)
    spent += time.monotonic() - begun
    _, result = trainer._valid_epoch(valid, show_progress=False)
    epoch += 1
    print(json.dumps({"spent": spent, "ndcg": float(result["ndcg@10"])}), flush=True)
"""


def measure() -> list[dict[str, Any]]:
    python, seconds = os.environ.get("ENDCAP_RECBOLE"), os.environ.get("ENDCAP_RECBOLE_SECONDS", "600")
    if not python or not DATA.is_file():
        print("skipped: needs ../shared/data and ENDCAP_RECBOLE, the python of an environment with RecBole")
        return []
    torch.set_num_threads(THREADS)
    only = os.environ.get("CASE", "")
    results = []
    for name, spec in CASES:
        if only in name:
            theirs, ours = _theirs(python, name, seconds), _ours(spec)
            results += _compared(name, theirs, ours)
    return results


def _compared(name: str, theirs: list[tuple[float, float]], ours: list[tuple[float, float]]) -> list[dict[str, Any]]:
    best = max(ndcg for _, ndcg in theirs)
    took = next(spent for spent, ndcg in theirs if ndcg == best)
    reached = next((spent for spent, ndcg in ours if ndcg >= best), None)
    how = f"ml100k, {THREADS} threads; RecBole's best after {took:.0f} s of training; tests.bench recbole"
    rows: list[tuple[str, float | None, str]] = [
        (f"ndcg@{CUTOFF}, RecBole's best", best, ""),
        (f"ndcg@{CUTOFF}, ours at best", max(ndcg for _, ndcg in ours), ""),
        ("seconds of training to RecBole's best, RecBole", took, "s"),
        ("seconds of training to RecBole's best, ours", reached, "s"),
        ("how many times as fast to RecBole's best", took / reached if reached else None, "x"),
    ]
    return [
        {"name": f"{name}: {what}", "value": value, "unit": unit, "floor": None, "lower_is_better": False, "how": how}
        for what, value, unit in rows
        if value is not None
    ]


def _theirs(python: str, name: str, seconds: str) -> list[tuple[float, float]]:
    """(seconds of training so far, NDCG) after each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ml-100k").mkdir()
        (Path(folder) / "ml-100k" / "ml-100k.inter").write_bytes(lzma.decompress(DATA.read_bytes()))
        command = [python, "-c", THEIRS, name, folder, seconds, str(THREADS)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"RecBole's {name} failed: {done.stderr[-2000:]}")
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"spent"')]
    return [(row["spent"], row["ndcg"]) for row in rows]


@dataclass(frozen=True)
class _Watched(Validation):
    """Notes after each epoch how long training took so far, and NDCG. since: when each stretch of training began."""

    rows: list[tuple[float, float]] = field(default_factory=list)
    since: list[float] = field(default_factory=lambda: [time.monotonic()])

    def ranks(self, model: Model) -> NDArray[np.int64]:
        spent = time.monotonic() - self.since[-1] + (self.rows[-1][0] if self.rows else 0.0)
        ranks = super().ranks(model)
        listed = ranks[(ranks > 0) & (ranks <= CUTOFF)]
        self.rows.append((spent, float((1 / np.log2(listed + 1)).sum()) / len(ranks)))
        self.since.append(time.monotonic())
        return ranks


def _ours(spec: ModelSpec) -> list[tuple[float, float]]:
    """(seconds of training so far, NDCG) after each epoch."""
    train, asked, wanted, n_items = _split()
    watched = _Watched(asked, wanted, "seen" if isinstance(spec, NeuMFSpec) else "none")
    make(spec).fit(train, n_items, Fitting(seed=1, validation=watched))
    return watched.rows


def _split() -> tuple[Sessions, Sessions, NDArray[np.int32], int]:
    """Every user's events but the last two; and after them the last but one."""
    log = pd.read_csv(DATA, sep="\t").reset_index(names="row")
    log.columns = [name.split(":")[0] for name in log.columns]
    log = log.sort_values(["user_id", "timestamp", "row"])
    log["left"] = log.groupby("user_id").cumcount(ascending=False)
    train = log[log["left"] > 1]
    items = pd.Series(np.arange(train["item_id"].nunique()), index=train["item_id"].value_counts(sort=True).index)
    lengths = train.groupby("user_id").size().to_numpy()
    sessions = Sessions(
        items.loc[train["item_id"]].to_numpy(np.int32),
        (train["timestamp"] * 1000).to_numpy(np.int64),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.arange(len(lengths), dtype=np.int32),
    )
    wanted = log[log["left"] == 1]["item_id"]
    known = wanted.isin(items.index).to_numpy()
    return sessions, sessions.take(known), items.loc[wanted[known]].to_numpy(np.int32), len(items)
