"""What runs that failed or were killed have left in a store's folder: rows that are no artifact's yet."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from endcap.forgetting.places import ARTIFACTS
from endcap.forgetting.scan import CustomerScan
from endcap.store import Store


def find_unfinished(store: Store, owners: Collection[str], scan: CustomerScan) -> list[str]:
    """Find the unfinished work, as kind and key, that holds a customer.

    A store in a bucket has none: each process removes its own, and only a model's weights outlive it.
    """
    if not store.root.startswith("file://"):
        return []
    work = Path(store.root.removeprefix("file://")) / ".work"
    return sorted(
        folder.relative_to(work).as_posix()
        # Of steps alone: others, such as an intake that runs, work beside them.
        for kind in ("ingests", *ARTIFACTS)
        for folder in (work / kind).glob("*/*")
        if folder.is_dir() and folder.parent.name in owners and any(map(scan.is_in_bytes, _list_files(folder)))
    )


def remove_unfinished(store: Store, names: Collection[str]) -> None:
    """Remove unfinished work. A process that works on it is waited for."""
    for name in names:
        kind, _, key = name.rpartition("/")
        with store.workspace(kind, key):  # which is empty at its end
            pass


def _list_files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]
