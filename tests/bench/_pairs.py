"""Ingest beside another checkout's: processor time a row, in interleaved pairs.

``python -m tests.bench ingest --against PATH``: PATH is a checkout of another commit, as `git worktree add PATH COMMIT`
makes it. Both run in this environment, each in a process of its own that has the checkout first on its path.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from tests.bench.ingest import log_blocks

HERE = Path(__file__).resolve().parents[2]
ROWS, PAIRS = 1_000_000, 10
WARM_UP = 1_000
"""Rows that both ingest before, so that imports and first uses are not in the figures."""
WORKER = """
import json, resource, sys
import endcap
from endcap.events import ingest
from endcap.spec.shop import Shop
from endcap.store import open_store

def spent():
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)

print(json.dumps(endcap.__file__), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    shop, store = Shop.model_validate(task["shop"]), open_store(task["store"])
    begun = spent()
    address = ingest(shop, store)
    seconds = spent() - begun
    print(json.dumps({"seconds": seconds, "events": store.manifest(address)["facts"]["events"]}), flush=True)
"""


def compare(against: Path, rows: int = ROWS, pairs: int = PAIRS) -> list[dict[str, Any]]:
    """For each kind of input the median ratio of processor time a row, this checkout's by the other's.

    Raises AssertionError where a checkout does not read every row.
    """
    with TemporaryDirectory() as name, _ingester(HERE) as ours, _ingester(against.resolve()) as theirs:
        return [_compared(kind, Path(name), rows, pairs, ours, theirs) for kind in INPUTS]


def _compared(
    kind: str, folder: Path, rows: int, pairs: int, ours: Callable[..., float], theirs: Callable[..., float]
) -> dict[str, Any]:
    small, whole = (_shop(kind, folder / f"{kind}-{count}", count) for count in (min(WARM_UP, rows), rows))
    for ingester in (ours, theirs):
        ingester(small, min(WARM_UP, rows))
    seconds: dict[Callable[..., float], list[float]] = {ours: [], theirs: []}
    for number in range(pairs):
        # The first of two may find the processor hotter, or the file not yet in memory.
        for ingester in (ours, theirs) if number % 2 else (theirs, ours):
            seconds[ingester].append(ingester(whole, rows))
    ratios = sorted(own / other for own, other in zip(seconds[ours], seconds[theirs], strict=True))
    a_row = [statistics.median(seconds[ingester]) / rows * 1e6 for ingester in (ours, theirs)]
    return {
        "name": f"ingest_{kind}_by_other",
        "value": statistics.median(ratios),
        "unit": f"times, {_quartile(ratios, 1):.3f} to {_quartile(ratios, 3):.3f}",
        "floor": None,
        "lower_is_better": True,
        "how": f"{rows:,} rows, median of {pairs} pairs and its quartiles; processor time a row: {a_row[0]:.3f} and "
        f"{a_row[1]:.3f} microseconds",
        "ratios": ratios,
    }


def _quartile(values: list[float], number: int) -> float:
    return statistics.quantiles(values, n=4, method="inclusive")[number - 1] if len(values) > 1 else values[0]


@contextmanager
def _ingester(checkout: Path) -> Iterator[Callable[[dict[str, Any], int], float]]:
    """A process that ingests with a checkout's code. Called with a shop and its rows it gives processor seconds."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        cwd=checkout,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    given, answers = process.stdin, process.stdout

    def answer() -> Any:
        line = answers.readline()
        if not line:
            raise AssertionError(f"the process with {checkout} ended with {process.wait()}")
        return json.loads(line)

    def ingest(shop: dict[str, Any], rows: int) -> float:
        with TemporaryDirectory() as store:
            given.write(json.dumps({"shop": shop, "store": store}) + "\n")
            given.flush()
            measured = answer()
        if measured["events"] != rows:
            raise AssertionError(f"{checkout}: {measured['events']:,} events of {rows:,} rows")
        return float(measured["seconds"])

    try:
        if not Path(answer()).is_relative_to(checkout):
            raise AssertionError(f"{checkout} is not the checkout whose endcap is imported")
        yield ingest
    finally:
        given.close()
        process.wait()


def _shop(kind: str, file: Path, rows: int) -> dict[str, Any]:
    """The input of a kind, written, and a shop that reads it; with no key of the spec that older releases lack."""
    suffix, mixed, write = INPUTS[kind]
    path = file.with_name(file.name + suffix)
    write(path, log_blocks(rows, mixed=mixed))
    return {
        "apiVersion": "endcap/v2",
        "kind": "Shop",
        "name": "bench",
        "events": {
            "sources": [{"path": str(path)}],
            "columns": {"session": "session", "customer": "customer", "type": "type"},
            "time": {"unit": "iso" if mixed else "ms"},
        },
    }


def _write_csv(path: Path, blocks: Iterator[pa.Table], delimiter: str = ",", quoting: str = "none") -> None:
    with path.open("wb") as handle:
        for number, table in enumerate(blocks):
            options = pa.csv.WriteOptions(include_header=not number, delimiter=delimiter, quoting_style=quoting)
            pa.csv.write_csv(table, handle, options)


def _write_tsv(path: Path, blocks: Iterator[pa.Table]) -> None:
    _write_csv(path, blocks, "\t")


def _write_quoted(path: Path, blocks: Iterator[pa.Table]) -> None:
    """Quotes round all texts, with a column of titles that have commas and quotes in them."""
    _write_csv(path, (_with_titles(table) for table in blocks), quoting="needed")


def _with_titles(table: pa.Table) -> pa.Table:
    title = pc.binary_join_element_wise("Jacket, ", table["item"], ', 10" sleeves', "")
    return table.add_column(3, "title", title)


def _write_jsonl(path: Path, blocks: Iterator[pa.Table]) -> None:
    with path.open("wb") as handle:
        for table in blocks:
            parts: list[Any] = []
            for name in table.column_names:
                texts = pa.types.is_string(table[name].type)
                mark, quote = ("{" if not parts else ", "), '"' if texts else ""
                parts += [f'{mark}"{name}": {quote}', table[name].cast(pa.string()), quote]
            lines = pc.binary_join_element_wise(*parts, "}\n", "")
            for chunk in lines.chunks:
                handle.write("".join(chunk.to_pylist()).encode())


def _write_parquet(path: Path, blocks: Iterator[pa.Table]) -> None:
    first = next(blocks)
    with pa.parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in blocks:
            writer.write_table(table)


INPUTS: dict[str, tuple[str, bool, Callable[[Path, Iterator[pa.Table]], None]]] = {
    "csv": (".csv", False, _write_csv),
    "csv_mixed_days": (".csv", True, _write_csv),
    "csv_quoted": (".csv", False, _write_quoted),
    "tsv": (".tsv", False, _write_tsv),
    "jsonl": (".jsonl", False, _write_jsonl),
    "parquet": (".parquet", False, _write_parquet),
}
"""Kinds of input: suffix, whether times are ISO texts of 30 mixed days (else epoch ms in order), and the writer."""
