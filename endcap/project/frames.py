"""Frames in place of a shop's files, and files and frames of a user's own in the store."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from endcap.errors import UserError
from endcap.spec import Shop
from endcap.store import Store


def use_frames(shop: Shop, frames: Mapping[str, Any], store: Store) -> Shop:
    """Make a shop that reads frames in place of its files.

    Each frame is written once into the store, named by its content.

    Raises
    ------
    UserError
        The shop's spec has no such table, or the value is not a frame; or the shop has pseudonyms, and the frame has
        the ids.
    """
    changes = {}
    for name, frame in frames.items():
        if frame is None:
            continue
        table = getattr(shop, name)
        if table is None:
            raise UserError(
                f"the shop {shop.name} has no {name}: its spec says which columns they have ({name}.columns)",
                code="project.table-undeclared",
                table=name,
                shop=shop.name,
            )
        if shop.events.pseudonyms and name != "items":
            raise UserError(
                f"the shop {shop.name} has events.pseudonyms, and a frame of {name} would be kept with its ids. Write "
                "the frame to a file of your own, and name that as a source",
                code="project.frame-with-ids",
                table=name,
                shop=shop.name,
            )
        source = type(table.sources[0])(path=put_frame(frame, shop.name, name, store), format="parquet")
        changes[name] = table.model_copy(update={"sources": [source]})
    return shop.model_copy(update=changes)


def put_frame(frame: Any, shop: str, table: str, store: Store) -> str:
    """Write a frame that stands for a table of the shop into the store, and return its address."""
    return put_data(store, frame, f"frames/{shop}/{table}")


def put_data(store: Store, data: Any, name: str) -> str:
    """Upload a file, a folder or a frame into the store under a name, and return its address."""
    from endcap.events.frames import write_table
    from endcap.store.files import put as put_file

    if isinstance(data, str | Path):
        return put_file(store, Path(data), name)
    with tempfile.TemporaryDirectory(prefix="endcap-frame-") as folder:
        file = Path(folder) / "data.parquet"
        write_table(data, file)
        return put_file(store, file, name if name.endswith(".parquet") else f"{name}.parquet")
