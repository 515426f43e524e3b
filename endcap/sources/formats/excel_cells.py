"""The cells of a workbook's sheet as texts: the main function of a process of its own.

A workbook of a few kB may take all memory to open, such as one with a cell in the last row and column, and the parser
then ends its process. So it has one to itself, whose memory is bounded. The workbook comes on standard input. The
result goes to standard output as JSON.
"""

from __future__ import annotations

import datetime
import io
import json
import resource
import sys
import tempfile
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

MEMORY = 2 << 30
"""Bytes of address space of the process."""
COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
"""How compound files begin, in which old and encrypted workbooks lie (MS-CFB 2.2)."""
LARGEST_EXACT = 10**15
"""Excel keeps 15 digits of a number."""


def main() -> None:
    """Read a workbook. The arguments are the sheet's name, empty for the first, and the most rows and cells."""
    sheet, most_rows, most_cells = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data = sys.stdin.buffer.read()
    try:
        result = read_cells(data, sheet, most_rows, most_cells)
    except PasswordError:
        result = {"error": "encrypted"}
    except CalamineError as error:
        result = {"error": "encrypted"} if is_encrypted(data) else {"error": "damaged", "reason": str(error)}
    except MemoryError:
        result = {"error": "memory"}
    json.dump(result, sys.stdout)


def is_encrypted(data: bytes) -> bool:
    """Return whether a workbook that could not be read has a password.

    calamine says so of a file, whose suffix names its kind. Of bytes it says only that they are of no kind.
    """
    if not data.startswith(COMPOUND):
        return False
    for suffix in (".xlsx", ".xls"):
        with tempfile.NamedTemporaryFile(suffix=suffix) as file:
            file.write(data)
            file.flush()
            try:
                CalamineWorkbook.from_path(file.name).close()
            except PasswordError:
                return True
            except CalamineError:
                continue
    return False


def read_cells(data: bytes, sheet: str, most_rows: int, most_cells: int) -> dict[str, Any]:
    """Return the texts of a sheet.

    Parameters
    ----------
    data
        The workbook.
    sheet
        The sheet's name. Empty: the first visible one.
    most_rows, most_cells
        The limits of its used area.

    Returns
    -------
    dict
        `first`, the number of the first row, from 1, and `rows`, each a list of texts, None for an empty cell. Or an
        `error`: `sheet`, with the names of `sheets`, or `size`, with the number of `rows` and `columns`.
    """
    with CalamineWorkbook.from_filelike(io.BytesIO(data)) as workbook:
        names = [each.name for each in workbook.sheets_metadata if each.typ == SheetTypeEnum.WorkSheet]
        visible = [each.name for each in workbook.sheets_metadata if each.visible == SheetVisibleEnum.Visible]
        name = sheet or next((each for each in names if each in visible), None)
        if name not in names:
            return {"error": "sheet", "sheets": names}
        content = workbook.get_sheet_by_name(name)
        if content.start is None or content.end is None:
            return {"first": 1, "rows": []}
        rows, columns = (end - start + 1 for start, end in zip(content.start, content.end, strict=True))
        if rows > most_rows or rows * columns > most_cells:
            return {"error": "size", "rows": rows, "columns": columns}
        texts = [[convert_cell(cell) for cell in row] for row in content.to_python(skip_empty_area=True)]
        return {"first": content.start[0] + 1, "rows": texts}


def convert_cell(value: Any) -> str | None:
    """Return a cell's text as a CSV file would have it; None for an empty cell and one with an error such as #N/A."""
    match value:
        case "" | None:
            return None
        case bool():
            return "true" if value else "false"
        case int() | float() if value == int(value):
            # So that nobody takes a number for exact that has lost digits in the workbook already.
            return str(int(value)) if abs(value) < LARGEST_EXACT else f"{value:.15e}"
        case float():
            return f"{value:.15g}"
        case datetime.timedelta():
            seconds = round(value.total_seconds())
            return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return str(value)


if __name__ == "__main__":
    main()
