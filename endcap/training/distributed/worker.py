"""The work of each worker: it reads the data from the store, and fits the model together with the others.

All workers have the same seed, data and weights. Each computes the gradients of its own lanes of every step
(`endcap.neural.parallel`). Only the first worker, rank 0, validates, keeps checkpoints and writes the fitted model.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist

from endcap.errors import EndcapError, IntegrityError, UserError, describe_error
from endcap.features.dataset_files import build_item_table, read_refit_sessions
from endcap.features.item_attributes import encode_item_features, select_attributes
from endcap.features.sessions import Sessions
from endcap.features.view import open_view
from endcap.models import Fitting, Model, make
from endcap.models.device import find_device
from endcap.models.fit import draw_validation
from endcap.models.preprocessed import unwrap
from endcap.models.validation import Scorer, Validation
from endcap.neural.parallel import AllReduce
from endcap.spec.settings import FitSettings
from endcap.store import CHECKPOINT, open_store
from endcap.training.distributed.job import MODEL, FitJob, artifact_kind

Tell = Callable[[dict[str, Any]], None]
HOPELESS = (UserError, IntegrityError, ValueError)
"""What begins anew ends the same."""


def work(job: FitJob, tell: Tell) -> None:
    """Fit a model. Every worker of the process group calls this.

    Parameters
    ----------
    job
        The fit.
    tell
        Takes events: {"event": "line" | "row" | "fitted" | "error"} with what belongs to them.
    """
    # Beside the gradients' group: small things and files go over the processors, also where gradients are on GPUs.
    group = dist.new_group(backend="gloo")
    try:
        _Worker(job, tell, group).run()
    except HOPELESS as error:
        tell({"event": "error", "error": describe_error(_to_endcap_error(error))})
        raise


class _Worker:
    def __init__(self, job: FitJob, tell: Tell, group: dist.ProcessGroup) -> None:
        self._job, self._tell, self._group = job, tell, group
        self._rank, self._world = dist.get_rank(), dist.get_world_size()
        self._settings = FitSettings.model_validate_json(job.settings)
        self._store = open_store(job.store)

    def run(self) -> None:
        self._introduce()
        model = make(self._settings.model, self._settings.preprocessing)
        for inner in (unwrap(model), *unwrap(model).members().values()):
            if hasattr(inner, "exchange"):
                inner.exchange = AllReduce()
        sessions, n_items, fields_of_items = self._read_data()
        with self._open_workspace() as place:
            fitting = Fitting(
                seed=self._settings.seed,
                settings=self._job.fit_settings,
                workspace=place,
                keeps=self._rank == 0,
                progress=self._progress,
                observe=self._observe,
                **fields_of_items,
            )
            report = model.fit(sessions, n_items, fitting)
            if self._rank == 0:
                self._publish(model, {"found": dict(report.settings), "history": [dict(row) for row in report.history]})

    def _introduce(self) -> None:
        names = [f"process {os.getpid()} on {socket.gethostname()}"] * self._world
        dist.all_gather_object(names, names[0], group=self._group)
        self._progress(f"{self._world} workers: {', '.join(names)}")

    def _progress(self, line: str) -> None:
        if self._rank == 0:
            self._tell({"event": "line", "line": line})

    def _observe(self, row: Mapping[str, float]) -> bool:
        if self._rank == 0:
            self._tell({"event": "row", "row": dict(row)})
        return True

    def _read_data(self) -> tuple[Sessions, int, dict[str, Any]]:
        """Return the sessions of the job's part, the number of items, and further fields of `Fitting`."""
        settings, folder = self._settings, self._store.fetch(self._job.dataset)
        if self._job.part == "everything":
            vocabulary, sessions = read_refit_sessions(folder, settings)
            items = build_item_table(folder, vocabulary, sessions)
            return sessions, len(vocabulary), self._select_item_fields(items)
        view = open_view(folder, settings)
        sessions = view.train if self._job.part == "train" else view.training
        fields_of_items = self._select_item_fields(view.items)
        if self._job.fit_settings is None:
            validation = draw_validation(view, settings.exclude, settings.seed)
            fields_of_items["validation"] = validation and BroadcastValidation.wrap(validation, self._group)
        return sessions, len(view.vocabulary), fields_of_items

    def _select_item_fields(self, items: pa.Table) -> dict[str, Any]:
        return {"item_features": encode_item_features(items, self._settings.model), "items": select_attributes(items)}

    @contextlib.contextmanager
    def _open_workspace(self) -> Iterator[Path]:
        """Yield a folder with the same checkpoints for all workers; the others get them from rank 0."""
        with contextlib.ExitStack() as held:
            if self._rank == 0:
                name, key = artifact_kind(self._settings.name), self._job.key
                place = held.enter_context(self._store.workspace(name, key, self._progress))
            else:
                place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="endcap-worker-")))
            broadcast_checkpoints(place, self._group)
            yield place

    def _publish(self, model: Model, facts: dict[str, Any]) -> None:
        with self._store.publish(artifact_kind(self._settings.name), self._job.key) as draft:
            (draft.path / MODEL).mkdir()
            model.save(draft.path / MODEL)
            draft.facts |= {**facts, "device": find_device(model)}
        self._tell({"event": "fitted", "address": draft.address})


@dataclass(frozen=True)
class BroadcastValidation(Validation):
    """A validation that rank 0 measures and broadcasts, so that all workers end after the same epoch."""

    group: dist.ProcessGroup | None = None

    @classmethod
    def wrap(cls, validation: Validation, group: dist.ProcessGroup | None) -> BroadcastValidation:
        """Return a validation as one of a group of workers."""
        return cls(**{entry.name: getattr(validation, entry.name) for entry in fields(validation)}, group=group)

    def measure(self, model: Scorer) -> float:
        """See `Validation.measure`."""
        value = torch.zeros(1, dtype=torch.float64)
        if dist.get_rank(self.group) == 0:
            value[0] = super().measure(model)
        dist.broadcast(value, 0, group=self.group)
        return float(value)


def broadcast_checkpoints(place: Path, group: dist.ProcessGroup) -> None:
    """Copy rank 0's checkpoints below its `place` to the other workers, below their `place`."""
    rank = dist.get_rank(group)
    names: list[Any] = (
        [sorted(str(file.relative_to(place)) for file in place.rglob(CHECKPOINT))] if rank == 0 else [None]
    )
    dist.broadcast_object_list(names, 0, group=group)
    for name in names[0]:
        file = place / name
        size = torch.tensor([file.stat().st_size if rank == 0 else 0])
        dist.broadcast(size, 0, group=group)
        content = torch.from_file(str(file), size=int(size), dtype=torch.uint8) if rank == 0 else _allocate(int(size))
        dist.broadcast(content, 0, group=group)
        if rank != 0:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.numpy().tobytes())


def _allocate(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8)


def _to_endcap_error(error: Exception) -> EndcapError:
    if isinstance(error, EndcapError):
        return error
    return UserError(str(error), code="training.fit-refused", cause=type(error).__name__)
