"""GRU4Rec beside its authors' PyTorch implementation: same data, same hyper-parameters, two threads.

The implementation is no part of the project: point ENDCAP_GRU4REC at a checkout of hidasib/GRU4Rec_PyTorch_Official.
Its epochs and ours take turns in one process, so that both meet the same machine.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch

from endcap.neural.gru import GRUNetwork, GRUShape
from endcap.neural.gru_training import GRUSettings, GRUTrainer
from endcap.neural.sequences import Sequences
from endcap.neural.threads import limit_threads

DATA = Path(__file__).parents[3] / "shared" / "data" / "rsc15_100k"
THREADS = 2
_BOTH = {"n_sample": 2048, "constrained_embedding": True}
CASES: dict[str, tuple[float, int, GRUSettings, dict[str, Any]]] = {
    "cross-entropy, width 100, batch 32": (
        3.0,
        100,
        GRUSettings("cross-entropy", 32, 2048, 0.5, learning_rate=0.2, momentum=0.2, dropout_hidden=0.4),
        {**_BOTH, "layers": [100], "loss": "cross-entropy", "batch_size": 32, "sample_alpha": 0.5, "learning_rate": 0.2}
        | {"momentum": 0.2, "dropout_p_embed": 0.0, "dropout_p_hidden": 0.4, "logq": 1.0, "bpreg": 0.0, "elu_param": 0},
    ),
    "bpr-max, width 512, batch 128": (
        1.5,
        512,
        GRUSettings("bpr-max", 128, 2048, 0.3, 0.0, 0.9, 1.0, 0.05, 0.15, 0.5, 0.3),
        {**_BOTH, "layers": [512], "loss": "bpr-max", "batch_size": 128, "sample_alpha": 0.3, "learning_rate": 0.05}
        | {"momentum": 0.15, "dropout_p_embed": 0.5, "dropout_p_hidden": 0.3, "bpreg": 0.9, "elu_param": 1.0},
    ),
}


def measure(epochs: int = int(os.environ.get("EPOCHS", "10"))) -> list[dict[str, Any]]:
    checkout = os.environ.get("ENDCAP_GRU4REC")
    if not checkout or not DATA.is_dir():
        print("skipped: needs ../shared/data and ENDCAP_GRU4REC, a checkout of hidasib/GRU4Rec_PyTorch_Official")
        return []
    sys.path.insert(0, checkout)
    torch.set_num_threads(THREADS)
    only = os.environ.get("CASE", "")
    return [result for name, case in CASES.items() if only in name for result in _compared(name, *case, epochs)]


def _compared(
    name: str, floor: float, width: int, settings: GRUSettings, theirs: dict[str, Any], epochs: int
) -> list[dict[str, Any]]:
    train, test = (_read(f"yoochoose-clicks-100k_{part}.txt.xz") for part in ("train_full", "test"))
    index = {item: code for code, item in enumerate(train["ItemId"].value_counts().index)}
    ours, asked = _sequences(train, index), _sequences(test[test["ItemId"].isin(index.keys())], index)
    network = GRUNetwork.draw(GRUShape(len(index), width), np.ones(len(index), dtype=np.bool_), {}, 1)
    trainer = GRUTrainer(network, ours, settings, seed=1)
    rates: tuple[list[float], list[float]] = ([], [])

    def take_turns(*words: Any) -> None:
        line = " ".join(map(str, words))
        found = re.search(r"\| (\d+) e/s", line)
        if not found:
            return
        rates[0].append(float(found[1]))
        begun = time.perf_counter()
        trainer.epoch(len(rates[1]))
        rates[1].append(trainer.blocks.transitions / (time.perf_counter() - begun))
        print(f"{name}: epoch {len(rates[1])}: {rates[0][-1]:,.0f} e/s theirs, {rates[1][-1]:,.0f} ours", flush=True)

    reference = importlib.import_module("gru4rec_pytorch")
    reference.print = take_turns  # type: ignore[attr-defined]
    model = reference.GRU4Rec(device=torch.device("cpu"))
    model.set_params(**theirs, n_epochs=epochs)
    torch.manual_seed(1)
    tensor = torch.tensor
    # The checkout hands a pandas Series to torch.tensor, which newer versions refuse.
    with mock.patch("torch.tensor", lambda values, **kw: tensor(getattr(values, "values", values), **kw)):
        model.fit(train.copy(), sample_cache_max_size=2_000_000, compatibility_mode=False)
    model.model.eval()
    theirs_at = _theirs(model, test)
    ours_at = _ours(trainer.network(), asked)
    how = "authors' PyTorch GRU4Rec and ours, epochs in turn, two threads, rsc15_100k"
    ratio = float(np.median(np.array(rates[1]) / np.array(rates[0])))
    figures = [
        ("events a second, ours over theirs", ratio, "x", floor),
        ("events a second, theirs", float(np.median(rates[0])), "events/s", None),
        ("events a second, ours", float(np.median(rates[1])), "events/s", None),
        ("share of our time in matrix products", _share(trainer), "", None),
        ("HR@20, theirs", theirs_at[0], "", None),
        ("HR@20, ours", ours_at[0], "", theirs_at[0] - 0.005),
        ("MRR@20, theirs", theirs_at[1], "", None),
        ("MRR@20, ours", ours_at[1], "", theirs_at[1] - 0.005),
    ]
    return [
        {"name": f"{name}: {what}", "value": value, "unit": unit, "floor": least, "lower_is_better": False, "how": how}
        for what, value, unit, least in figures
    ]


def _read(file: str) -> pd.DataFrame:
    return pd.read_csv(DATA / file, sep="\t").sort_values(["SessionId", "Time"], kind="stable")


def _sequences(log: pd.DataFrame, index: dict[Any, int]) -> Sequences:
    lengths = log.groupby("SessionId", sort=False).size().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(log["ItemId"].map(index).to_numpy(np.int32), offsets)


def _theirs(model: Any, test: pd.DataFrame) -> tuple[float, float]:
    evaluation = importlib.import_module("evaluation")
    recall, mrr = evaluation.batch_eval(model, test.copy(), cutoff=[20], batch_size=128, mode="conservative")
    return float(recall[20]), float(mrr[20])


def _ours(network: GRUNetwork, test: Sequences) -> tuple[float, float]:
    followed = np.setdiff1d(np.arange(len(test.items)), test.offsets[1:] - 1)
    hidden = network.hidden(test)
    ranks = []
    for begin in range(0, len(followed), 1000):
        events = followed[begin : begin + 1000]
        scores = network.scores(hidden[torch.from_numpy(events)])
        own = scores[np.arange(len(events)), test.items[events + 1]]
        ranks.append((scores >= own[:, None]).sum(axis=1))
    rank = np.concatenate(ranks)
    return float((rank <= 20).mean()), float(((rank <= 20) / rank).mean())


def _share(trainer: GRUTrainer) -> float:
    """Of the time of steps, laying out included, what matrix products take."""
    from torch.profiler import ProfilerActivity, profile

    begun = time.perf_counter()
    block = next(trainer.blocks.epoch(0, 0))
    laying = (time.perf_counter() - begun) / len(block)
    steps = list(block.steps())[:60]
    with torch.inference_mode(), limit_threads(trainer.work), profile(activities=[ProfilerActivity.CPU]) as profiled:
        begun = time.perf_counter()
        for step in steps:
            trainer.step(step)
        whole = time.perf_counter() - begun + laying * len(steps)
    products = sum(row.self_cpu_time_total for row in profiled.key_averages() if row.key in ("aten::mm", "aten::addmm"))
    return products / 1e6 / whole
