"""Ingest of one log in each format, beside its CSV file in the same run: rows a second as a share, and peak memory."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pyarrow import orc

from tests.bench.ingest import ingest_file, log_blocks

ROWS = 1_000_000
SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "event",
        "fields": [{"name": name, "type": "string"} for name in ("session", "customer", "item")]
        + [{"name": "time", "type": "long"}, {"name": "type", "type": "string"}],
    }
)


def measure(rows: int = ROWS) -> list[dict[str, Any]]:
    """Rows a second of each format as a share of CSV's, and the peak memory of each."""
    with TemporaryDirectory() as name:
        files = _write_logs(Path(name), pa.concat_tables(log_blocks(rows, mixed=False)).combine_chunks())
        measured = {kind: ingest_file(file, rows, "ms") for kind, file in files.items()}
    text = measured.pop("csv")
    speed = f"{rows / text['seconds']:,.0f} rows/s"
    how = f"{rows:,} rows of five columns, epoch ms; CSV had {speed} in the same run; peak memory {{peak:.2f}} GiB"
    return [
        {
            "name": f"ingest_format_{kind}",
            "value": text["seconds"] / figures["seconds"],
            "unit": "times CSV's rows/s",
            "floor": None,
            "lower_is_better": False,
            "how": how.format(peak=figures["peak"]),
        }
        for kind, figures in measured.items()
    ]


def _write_logs(folder: Path, table: pa.Table) -> dict[str, Path]:
    files = {kind: folder / f"log.{kind}" for kind in ("csv", "parquet", "orc", "avro", "zip", "tgz")}
    pa.csv.write_csv(table, files["csv"], pa.csv.WriteOptions(quoting_style="none"))
    pq.write_table(table, files["parquet"], compression="zstd")
    orc.write_table(table, files["orc"], compression="zstd")
    with files["avro"].open("wb") as handle:
        rows = (row for block in table.to_batches(50_000) for row in block.to_pylist())
        fastavro.writer(handle, SCHEMA, rows, "deflate")
    with zipfile.ZipFile(files["zip"], "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(files["csv"], "log.csv")
    with tarfile.open(files["tgz"], "w:gz", compresslevel=1) as tar:
        tar.add(files["csv"], "log.csv")
    return files
