"""Sources without files: a simulated shop's log is written when it is read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from endcap.spec.shop import Shop
from endcap.spec.source import Simulation, SourceSpec


@contextlib.contextmanager
def write_simulated_files(shop: Shop, progress: Callable[[str], None]) -> Iterator[Shop]:
    """Write the files of simulated sources, and yield the shop with their paths, which are valid within the block."""
    tables = {name: table for name in ("events", "items", "customers") if (table := getattr(shop, name)) is not None}
    simulations = {repr(source.simulated): source.simulated for table in tables.values() for source in table.sources}
    if set(simulations.values()) == {None}:
        yield shop
        return
    with tempfile.TemporaryDirectory(prefix="endcap-simulated-") as place:
        folders = {}
        for number, (key, simulation) in enumerate(simulations.items()):
            if simulation is not None:
                folders[key] = Path(place) / str(number)
                _write_log(simulation, folders[key], progress)
        yield shop.model_copy(update={name: _set_paths(name, table, folders) for name, table in tables.items()})


def _write_log(simulation: Simulation, folder: Path, progress: Callable[[str], None]) -> None:
    from endcap.simulation.simulate import simulate, write_log

    progress(f"simulating {simulation.events:,} events of {simulation.days} days")
    write_log(simulate(**simulation.model_dump()), folder)


def _set_paths(name: str, table: Any, folders: dict[str, Path]) -> Any:
    def pathed(source: SourceSpec) -> SourceSpec:
        folder = folders.get(repr(source.simulated))
        if folder is None:
            return source
        path = folder / ("events" if name == "events" else "items.csv")
        return source.model_copy(update={"path": str(path), "simulated": None, "format": "csv"})

    return table.model_copy(update={"sources": [pathed(source) for source in table.sources]})
