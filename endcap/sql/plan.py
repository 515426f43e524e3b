"""A statement whose inputs are known, by any engine: what its rows depend on, and how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from endcap.sql.output import Output


class InputTable(Protocol):
    """A table that a statement reads."""

    @property
    def name(self) -> str:
        """The table's name in SQL."""

    def key(self) -> Any:
        """Return what the table's rows depend on, as JSON values."""

    def facts(self) -> dict[str, Any]:
        """Return where the rows come from."""


class SqlPlan(Protocol):
    """A statement that can run."""

    @property
    def inputs(self) -> Sequence[InputTable]:
        """The tables that it reads."""

    @property
    def is_kept(self) -> bool:
        """Whether the same statement on the same inputs need not run again."""

    def run(self, scratch: Path, folder: Path) -> Output:
        """Run the statement, and write its rows as Parquet.

        Parameters
        ----------
        scratch
            A folder for what exceeds the memory, and for converted inputs.
        folder
            Where the Parquet files go. It is not made if the rows go elsewhere.

        Raises
        ------
        UserError
            The statement has a mistake; the error says line and column.
        DataError
            An input cannot be read, or the rows are not what is expected.
        StorageError
            There is no room for what does not fit in memory.
        """
