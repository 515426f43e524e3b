"""Workbooks for tests, as ECMA-376, MS-XLSB and OASIS OpenDocument say, since no library here writes any."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from xml.sax.saxutils import escape

XLS = gzip.decompress(
    base64.b64decode("""
H4sIAAAAAAACA+1YTUhUURT+7nszzg86PzoGGsggZGkKhova6KuwXI1MbfohyPlbDNoo47SoRVk2qwiCVkUbxYI2Vpt+qKCgRVBg1CIIgplq1y
ooaKHzOve8OzqagQNlGO973HPPPfeec897597z7nuv54KFqbvNRaxAH3SUTA9qKmSCiqfcCID6TVOy5dpNxbSxoeBxUyBrnHhU98olYyjjXYSG
O45nRIGPVI5hDIOjmVR4HbGXfYgJ6UMvUYHrJPGhib2qZ5pg2sD0No98zHQ3Sy4x7aWxBXEUc8Zgxy61ig9rrdzng7R7n3Xes2QHGvFCruKzl4
U11ok92XRsZIN1tDhqMQMK6EAqk8rKth834AWOELoika7+/gJCFOwZfDfDwLfyrn4atuXrKxcg+Y/lctdv5G4K4kr5Fc0BTMAc4k2Sp7zc7rCS
cTQ7mjyZyI3PUzL3qNRNXelc6oQTyKVzIymqx7LphKzH05lESge6u3fSWopRidOOSPcQ89krtTlRBJYlijreQLVEk/AzH+RtFKDZ5299fROJR4
3jLJngl4P1CtkiPYaJc1KDlH3c41ikHayxnel5trqZ+WamIVrjVLdFGxWzf5LHXODeNpqnh/HW2FrBbyM+/+XAg5b8J6Od+NmB4unQ7DtjCq30
XJKkL69JdIpOce2qxEOjXAuVbj4wbfol9bi1gPLdVO9JPxbkZiMEmVot+XTEYktTz8pq6dTSlS2xii3BthxqvGBbFDQ8Id8E27rYINPi9HON7E
grGltdsnJG87IsiGmPYCtWvGQcrT5pxad80FfxQWdtl/JBZ2238kFn7Zecmm+yD31aPe7JCSkdL8ELGzZs2LBhw4YNG/8Ugo+iUAc+8KFSHgld
6r/OApWS/Zvkv8VBjNKVo4/KfchQncWpqtbPJjhF2ZZYo075f6HEIZo9i2HE2Y/hqtcvfZqJyvtZs2Lgz22haucvVePnX57/J3pJpIMAFgAA
""")
)
"""A sheet `Products` of Excel 97, as xlwt 1.3 writes it: item, title, price and since, with the rows XLS_ROWS."""
Cell = str | float | bool | date | datetime | None
XLS_ROWS: list[list[Cell]] = [
    ["item", "title", "price", "since"],
    ["007", "a", 12.5, date(2024, 3, 1)],
    [17000, "b", 3, None],
    ["i3", "ä", 0.5, date(2024, 3, 2)],
]


def encrypt_xlsx() -> bytes:
    """The compound file of an encrypted workbook, without its content: MS-OFFCRYPTO 2.3.4.4 names its stream."""
    old, new = ("Workbook".encode("utf-16-le"), "EncryptedPackage".encode("utf-16-le"))
    place = XLS.index(old)
    # An entry of the directory (MS-CFB 2.6.1): 64 bytes of name, then its length with the zero at its end.
    return XLS[:place] + new.ljust(64, b"\0") + struct.pack("<H", len(new) + 2) + XLS[place + 66 :]


def encrypt_xls() -> bytes:
    """The workbook XLS with the record that says that all after it is encrypted: FilePass, MS-XLS 2.4.117."""
    begin = XLS.index(struct.pack("<HH", 0x0809, 16))  # the record BOF, which is the first
    place = begin + 4 + 16
    return XLS[:place] + struct.pack("<H", 0x002F) + XLS[place + 2 :]


_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PARTS = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_STYLES = f"""<styleSheet xmlns="{_MAIN}"><fonts count="1"><font/></fonts>
<fills count="1"><fill><patternFill patternType="none"/></fill></fills>
<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>
<cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/></cellXfs></styleSheet>"""


def name_column(place: int) -> str:
    """The letters of a column, from 0."""
    letters = ""
    while place >= 0:
        letters, place = chr(65 + place % 26) + letters, place // 26 - 1
    return letters


def make_xlsx(
    sheets: Mapping[str, Sequence[Sequence[Cell]]],
    *,
    first_row: int = 1,
    hidden: Sequence[str] = (),
    more: str = "",
) -> bytes:
    """A workbook. first_row: the number of the first row of each sheet. more: XML after each sheet's rows."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as package:
        numbered = list(enumerate(sheets.items(), 1))
        parts = "".join(
            f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{_PARTS}.worksheet+xml"/>'
            for n, _ in numbered
        )
        package.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" '
            'ContentType="application/xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{_PARTS}.sheet.main+xml"/>'
            f'<Override PartName="/xl/styles.xml" ContentType="{_PARTS}.styles+xml"/>{parts}</Types>',
        )
        package.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        states = {name: "hidden" if name in hidden else "visible" for name in sheets}
        entries = "".join(
            f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}" state="{states[name]}"/>'
            for n, (name, _) in numbered
        )
        package.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{entries}</sheets></workbook>'
        )
        targets = "".join(
            f'<Relationship Id="rId{n}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            for n, _ in numbered
        )
        package.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships">{targets}'
            f'<Relationship Id="styles" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
        )
        package.writestr("xl/styles.xml", _STYLES)
        for n, (_, rows) in numbered:
            text = "".join(_write_row(line, row) for line, row in enumerate(rows, first_row))
            package.writestr(
                f"xl/worksheets/sheet{n}.xml",
                f'<worksheet xmlns="{_MAIN}"><sheetData>{text}{more}</sheetData></worksheet>',
            )
    return whole.getvalue()


def _write_row(line: int, row: Sequence[Cell]) -> str:
    cells = "".join(
        _write_cell(f"{name_column(place)}{line}", cell) for place, cell in enumerate(row) if cell is not None
    )
    return f'<row r="{line}">{cells}</row>'


def _write_cell(place: str, cell: Cell) -> str:
    match cell:
        case bool():
            return f'<c r="{place}" t="b"><v>{int(cell)}</v></c>'
        case datetime():
            days = (cell - datetime(1899, 12, 30)).total_seconds() / 86_400
            return f'<c r="{place}" s="2"><v>{days!r}</v></c>'
        case date():
            return f'<c r="{place}" s="1"><v>{(cell - date(1899, 12, 30)).days}</v></c>'
        case int() | float():
            return f'<c r="{place}"><v>{cell!r}</v></c>'
        case "#N/A":
            return f'<c r="{place}" t="e"><v>#N/A</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(str(cell))}</t></is></c>'


def make_xlsb(name: str, rows: Sequence[Sequence[Cell]]) -> bytes:
    """A workbook of one sheet in Excel's binary form (MS-XLSB): texts, numbers and truth values."""
    lines = b"".join(
        _record(0, struct.pack("<IIHHBI", line, 0, 300, 0, 0, 0))
        + b"".join(_write_binary_cell(place, cell) for place, cell in enumerate(row))
        for line, row in enumerate(rows)
    )
    area = struct.pack("<IIII", 0, len(rows) - 1, 0, max(map(len, rows)) - 1)
    sheet = _record(129) + _record(148, area) + _record(145) + lines + _record(146) + _record(130)
    entry = _record(156, struct.pack("<II", 0, 1) + _wide("rId1") + _wide(name))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as package:
        package.writestr("[Content_Types].xml", f'<Types xmlns="{_PACKAGE}/content-types"/>')
        package.writestr("xl/workbook.bin", _record(131) + _record(143) + entry + _record(144) + _record(132))
        package.writestr(
            "xl/_rels/workbook.bin.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type="{_OFFICE}/worksheet" '
            'Target="worksheets/sheet1.bin"/></Relationships>',
        )
        package.writestr("xl/worksheets/sheet1.bin", sheet)
    return whole.getvalue()


def _record(kind: int, data: bytes = b"") -> bytes:
    head, size, rest = [kind] if kind < 128 else [kind & 0x7F | 0x80, kind >> 7], [], len(data)
    while rest > 0x7F:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*head, *size, rest]) + data


def _wide(text: str) -> bytes:
    units = text.encode("utf-16-le")
    return struct.pack("<I", len(units) // 2) + units


def _write_binary_cell(place: int, cell: Cell) -> bytes:
    head = struct.pack("<II", place, 0)
    match cell:
        case None:
            return b""
        case bool():
            return _record(4, head + bytes([cell]))
        case int() | float():
            return _record(5, head + struct.pack("<d", cell))
    return _record(6, head + _wide(str(cell)))


def make_ods(sheets: Mapping[str, Sequence[Sequence[Cell]]]) -> bytes:
    """An OpenDocument spreadsheet."""
    base = "urn:oasis:names:tc:opendocument:xmlns"
    tables = ""
    for name, rows in sheets.items():
        cells = "".join(f"<table:table-row>{''.join(map(_write_ods_cell, row))}</table:table-row>" for row in rows)
        # As programs write the rest of a sheet.
        rest = '<table:table-row table:number-rows-repeated="1048000"><table:table-cell/></table:table-row>'
        tables += f'<table:table table:name="{escape(name)}">{cells}{rest}</table:table>'
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as package:
        package.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        package.writestr(
            "META-INF/manifest.xml",
            f'<manifest:manifest xmlns:manifest="{base}:manifest:1.0"><manifest:file-entry manifest:full-path="/" '
            'manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/></manifest:manifest>',
        )
        package.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{base}:office:1.0" xmlns:table="{base}:table:1.0" '
            f'xmlns:text="{base}:text:1.0"><office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body>'
            "</office:document-content>",
        )
    return whole.getvalue()


def _write_ods_cell(cell: Cell) -> str:
    match cell:
        case None:
            return "<table:table-cell/>"
        case bool():
            kind, value = "boolean", f'office:boolean-value="{str(cell).lower()}"'
        case date():
            kind, value = "date", f'office:date-value="{cell.isoformat()}"'
        case int() | float():
            kind, value = "float", f'office:value="{cell!r}"'
        case _:
            kind, value = "string", ""
    text = f"<text:p>{escape(str(cell))}</text:p>"
    return f'<table:table-cell office:value-type="{kind}" {value}>{text}</table:table-cell>'
