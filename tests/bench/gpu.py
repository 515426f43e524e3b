"""How fast GRU4Rec trains on a CUDA device: ``make bench-gpu``, or ``python3 tests/bench/gpu.py`` in a checkout.

Needs Python, torch and numpy, nothing installed and no network. Trains on synthetic sessions that have something to
learn: 40,000 items in a chain of likely followers. Checks that the GPU and the CPU agree, that large batches learn what
small ones do, and says where a step's time goes. Writes build/bench/gpu.json. Fails without a CUDA device, and where a
check does not hold.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from endcap.neural.gru import GRUNetwork, GRUShape  # noqa: E402
from endcap.neural.gru_training import GRUSettings, GRUTrainer  # noqa: E402
from endcap.neural.sequences import Sequences  # noqa: E402

BATCHES = (80, 128, 256, 512)
FLOOR_EVENTS, FLOOR_RECALL, FLOOR_AGREEMENT = 1_000_000, 0.005, 0.02
WARM_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Size:
    """What is trained. events: of a training epoch, about; negatives, width: of the network."""

    items: int = 40_000
    events: int = 4_000_000
    negatives: int = 2048
    width: int = 224
    epochs: int = 3


SETTINGS = GRUSettings("cross-entropy", 80, 2048, 0.5, learning_rate=0.1, dropout_embedding=0.1, dropout_hidden=0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cpu: try the program out on a tiny problem")
    device = torch.device(parser.parse_args().device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: torch.cuda.is_available() is False; run this on a machine that has one", file=sys.stderr)
        return 1
    size = Size() if device.type == "cuda" else Size(200, 20_000, 64, 32, 2)
    figures = figures_of(size, device)
    place = ROOT / "build" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    (place / "gpu.json").write_text(json.dumps(figures, indent=1) + "\n")
    for figure in figures:
        print(f"{figure['name']:<52} {figure['value']:>14,.4f} {figure['floor'] or '':>12}  {figure['unit']}")
    missed = [figure["name"] for figure in figures if not _met(figure)]
    if missed and device.type == "cuda":
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed and device.type == "cuda" else 0


def measure() -> list[dict[str, Any]]:
    """For `make bench`, which runs on machines without a GPU too."""
    if not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return []
    return figures_of(Size(), torch.device("cuda"))


def figures_of(size: Size, device: torch.device) -> list[dict[str, Any]]:
    train, test = sessions(size.items, size.events, 1), sessions(size.items, min(size.events // 20, 50_000), 2)
    figures = [_figure("largest difference of loss, GPU to CPU", agreement(size, device), "", FLOOR_AGREEMENT, True)]
    recalls: dict[int, float] = {}
    for batch in BATCHES:
        rate, recalls[batch], split = _trained(size, batch, device, train, test)
        floor = FLOOR_EVENTS if batch == max(BATCHES) else None
        figures.append(_figure(f"batch {batch}: events a second", rate, "events/s", floor))
        figures.append(_figure(f"batch {batch}: Recall@20", recalls[batch], "", None))
        figures += [
            _figure(f"batch {batch}: share of {what}", share, "of the GPU's time", None)
            for what, share in split.items()
        ]
    lost = recalls[min(BATCHES)] - recalls[max(BATCHES)]
    figures.append(_figure("Recall@20 lost from smallest to largest batch", lost, "", FLOOR_RECALL, True))
    return figures


def sessions(items: int, events: int, seed: int) -> Sequences:
    """Sessions of 2 to 20 events. Popularity falls as 1 / rank^0.8; an item is followed by one of its four usual
    followers, the same ones for every seed, in three cases of four, else by any item."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 21, max(events // 11, 1))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    weight = np.cumsum(1 / np.arange(1, items + 1) ** 0.8)
    weight /= weight[-1]
    usual = np.searchsorted(weight, np.random.default_rng(0).random((items, 4))).astype(np.int32)
    flat = np.searchsorted(weight, rng.random(offsets[-1])).astype(np.int32)
    for step in range(1, 20):
        here = offsets[:-1][lengths > step] + step
        followed = here[rng.random(len(here)) < 0.75]
        flat[followed] = usual[flat[followed - 1], rng.integers(0, 4, len(followed))]
    return Sequences(flat, offsets)


def trainer(size: Size, settings: GRUSettings, device: torch.device, train: Sequences) -> GRUTrainer:
    known = np.bincount(train.items, minlength=size.items) > 0
    network = GRUNetwork.draw(GRUShape(size.items, size.width), known, {}, 1).to(device)
    return GRUTrainer(network, train, settings, seed=1)


def agreement(size: Size, device: torch.device) -> float:
    """The largest relative difference of an epoch's loss between the device and the CPU, in three epochs of a small
    problem without chance: as many negatives as items, no dropout."""
    small = Size(300, 6000, 300, 32)
    settings = dataclasses.replace(SETTINGS, batch=64, negatives=300, dropout_embedding=0.0, dropout_hidden=0.0)
    train = sessions(small.items, small.events, 3)
    ours, cpu = (trainer(small, settings, one, train) for one in (device, torch.device("cpu")))
    return max(abs(ours.epoch(number) / cpu.epoch(number) - 1) for number in range(3))


def _trained(
    size: Size, batch: int, device: torch.device, train: Sequences, test: Sequences
) -> tuple[float, float, dict[str, float]]:
    """Events a second of the last epoch, Recall@20 after it, and where the time of a step goes."""
    settings = dataclasses.replace(SETTINGS, batch=batch, negatives=size.negatives)
    made = trainer(size, settings, device, train)
    rate = 0.0
    for number in range(size.epochs):
        _wait(device)
        begun = time.perf_counter()
        made.epoch(number)
        _wait(device)
        rate = made.blocks.transitions / (time.perf_counter() - begun)
    return rate, recall(made.network(), test), split(made, device)


def recall(network: GRUNetwork, test: Sequences) -> float:
    """The share of next items among the best 20 of all, over every prefix."""
    followed = np.setdiff1d(np.arange(len(test.items)), test.offsets[1:] - 1)
    hidden, hits = network.hidden(test), 0
    for begin in range(0, len(followed), 2048):
        events = followed[begin : begin + 2048]
        states = hidden[torch.from_numpy(events).to(hidden.device)]
        scores = torch.addmm(network.bias, states, network.output.T)
        wanted = torch.from_numpy(test.items[events + 1].astype(np.int64)).to(hidden.device)[:, None]
        hits += int(((scores >= scores.gather(1, wanted)).sum(1) <= 20).sum())
    return hits / len(followed)


def split(made: GRUTrainer, device: torch.device) -> dict[str, float]:
    """Shares of the time of a block's kernels: matrix products, row fetches and updates, the rest."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    block = next(made.blocks.epoch(1, 0))
    with torch.inference_mode(), profile(activities=activities) as profiled:
        for step in list(block.steps())[:WARM_STEPS]:
            made.step(step)
        _wait(device)
    names = {"matrix products": ("mm",), "rows": ("index", "scatter", "gather")}
    taken = dict.fromkeys([*names, "the rest"], 0.0)
    for row in profiled.key_averages():
        spent = row.self_device_time_total if on_gpu else row.self_cpu_time_total
        kind = next((kind for kind, parts in names.items() if any(part in row.key for part in parts)), "the rest")
        if row.key.startswith("aten::"):
            taken[kind] += spent
    return {kind: spent / max(sum(taken.values()), 1e-9) for kind, spent in taken.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _figure(name: str, value: float, unit: str, floor: float | None, lower_is_better: bool = False) -> dict[str, Any]:
    how = f"synthetic sessions; torch {torch.__version__}; {_machine()}"
    return {"name": name, "value": value, "unit": unit, "floor": floor, "lower_is_better": lower_is_better, "how": how}


def _machine() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"


def _met(figure: dict[str, Any]) -> bool:
    if figure["floor"] is None:
        return True
    return bool(figure["value"] <= figure["floor"] if figure["lower_is_better"] else figure["value"] >= figure["floor"])


if __name__ == "__main__":
    sys.exit(main())
