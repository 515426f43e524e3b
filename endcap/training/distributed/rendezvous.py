"""How workers of this machine find each other: by a file, since Ray Train would open a port to the whole network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend


@dataclass
class FileRendezvous(TorchConfig):
    """A `TorchConfig` whose workers meet by a file.

    Attributes
    ----------
    folder
        A folder of this machine, which gets a file for each group of workers.
    """

    folder: str = ""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _FileRendezvousBackend


class _FileRendezvousBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        # Workers that begin anew are another group, which needs another file.
        place = f"file://{backend_config.folder}/meeting-{time.time_ns()}"
        worker_group.execute(_set_torch_distributed_env_vars)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    _setup_torch_process_group,
                    backend=backend_config.backend,
                    world_rank=rank,
                    world_size=len(worker_group),
                    init_method=place,
                    timeout_s=backend_config.timeout_s,
                )
                for rank in range(len(worker_group))
            ]
        )
