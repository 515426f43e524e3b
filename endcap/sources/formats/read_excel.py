"""Read a sheet of a workbook (Excel, OpenDocument): small tables of items and customers, and lists of ids."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from endcap.errors import DataError
from endcap.safe_reading import open_regular
from endcap.sources.files import SourceFile, convert_read_errors
from endcap.sources.formats.excel_cells import MEMORY
from endcap.sources.formats.rows import RowBatch, SourceRows, make_batch
from endcap.sources.opening import open_whole

LARGEST = 32 << 20
"""The most bytes of a workbook."""
MOST_ROWS, MOST_CELLS = 200_000, 5_000_000
"""The most rows and cells of a sheet's used area."""
PATIENCE = 300.0
"""Seconds after which reading a workbook is given up."""
_MODULE = "endcap.sources.formats.excel_cells"


def read_excel(file: SourceFile, sheet: str | None, header: Sequence[str] | None) -> SourceRows | None:
    """Read a sheet's rows. A row's line is its number in the sheet.

    Parameters
    ----------
    file
        The workbook.
    sheet
        The sheet's name. None: the first visible one.
    header
        Names of the columns. None: the first row that is not empty has them.

    Returns
    -------
    SourceRows or None
        The rows in one batch. None: the sheet is empty.

    Raises
    ------
    DataError
        If the workbook is damaged, has a password (`events.excel-encrypted`), is too large (`events.excel-too-large`)
        or has no such sheet (`events.excel-sheet`).
    """
    if file.bytes > LARGEST:
        raise _too_large_error(file, f"it has {file.bytes:,} bytes; allowed are {LARGEST:,}")
    result = _run_reader(file, sheet or "")
    if "error" in result:
        raise _make_error(file, sheet, result)
    numbered = [(line, row) for line, row in enumerate(result["rows"], result["first"]) if any(row)]
    if not numbered:
        return None
    names = dict(enumerate(numbered.pop(0)[1] if header is None else header))
    # Notes beside a table have no header.
    places = [place for place, name in names.items() if name]
    width = len(result["rows"][0])

    def read_batch() -> Iterator[RowBatch]:
        texts = [[row[place] if place < width else None for _, row in numbered] for place in places]
        lines = np.array([line for line, _ in numbered], dtype=np.int64)
        yield make_batch([pa.array(column, pa.string()) for column in texts], lines, [])

    return SourceRows([str(names[place]) for place in places], frozenset(), read_batch())


def _run_reader(file: SourceFile, sheet: str) -> dict[str, Any]:
    """Return what the process of `excel_cells` answers."""
    command = [sys.executable, "-m", _MODULE, sheet, str(MOST_ROWS), str(MOST_CELLS)]
    with convert_read_errors(file.name):
        content = open_whole(file)
        with open_regular(file.path) if isinstance(content, str) else content as workbook:
            try:
                ended = subprocess.run(command, stdin=workbook, capture_output=True, timeout=PATIENCE, check=False)
            except subprocess.TimeoutExpired:
                return {"error": "time"}
    if ended.returncode == 0:
        result: dict[str, Any] = json.loads(ended.stdout)
        return result
    if b"memory" in ended.stderr:
        return {"error": "memory"}
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    return {"error": "damaged", "reason": lines[-1] if lines else f"its reader ended with {ended.returncode}"}


def _make_error(file: SourceFile, sheet: str | None, result: Mapping[str, Any]) -> DataError:
    match result["error"]:
        case "sheet":
            names = result["sheets"]
            sheets = ", ".join(map(repr, names)) or "none"
            lacking = "no visible sheet with cells" if sheet is None else f"no sheet {sheet!r}"
            return DataError(
                f"{file.name}: it has {lacking}; its sheets are: {sheets}. Name one of them as the source's sheet",
                code="events.excel-sheet",
                path=file.name,
                sheet=sheet,
                sheets=names,
            )
        case "encrypted":
            return DataError(
                f"{file.name}: the workbook has a password; save it without one",
                code="events.excel-encrypted",
                path=file.name,
            )
        case "size":
            rows, columns = result["rows"], result["columns"]
            return _too_large_error(
                file,
                f"its cells reach over {rows:,} rows and {columns:,} columns; allowed are {MOST_ROWS:,} rows and "
                f"{MOST_CELLS:,} cells. If it looks smaller, a cell far out has a value: delete those rows or columns",
            )
        case "memory":
            return _too_large_error(file, f"it takes more than {MEMORY >> 30} GiB of memory to open")
        case "time":
            return _too_large_error(file, f"it was not read within {PATIENCE:.0f} seconds")
    reason = str(result["reason"])
    return DataError(
        f"{file.name}: the workbook is damaged or not what its suffix says ({reason}); open it in a program for "
        "spreadsheets, and save it as .xlsx or CSV",
        code="events.file-damaged",
        path=file.name,
        reason=reason,
    )


def _too_large_error(file: SourceFile, reason: str) -> DataError:
    return DataError(
        f"{file.name}: the workbook is too large: {reason}. Or save the table as CSV or Parquet",
        code="events.excel-too-large",
        path=file.name,
        reason=reason,
        rows=MOST_ROWS,
        cells=MOST_CELLS,
        bytes=LARGEST,
    )
