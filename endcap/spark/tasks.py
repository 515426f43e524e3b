"""Work that Spark's executors do piece by piece: a task for each piece, and the results in the order of the pieces."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from endcap.errors import EndcapError, describe_error, rebuild_error

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

Json = dict[str, Any]
Work = Callable[[Any], Json]
"""Does a piece of work on an executor. It can be pickled, and what it returns is JSON."""


def run_tasks(session: SparkSession, work: Work, pieces: Sequence[Any]) -> Iterator[Json]:
    """Have executors do work, a task for each piece, and yield the results in the order of the pieces.

    A result comes as soon as those before it are there. Spark does a piece again if it loses the executor, so work that
    writes must bear that.

    Parameters
    ----------
    session
        The session.
    work
        The work.
    pieces
        What it is given, in turn. Pieces can be pickled.

    Raises
    ------
    EndcapError
        What the work raised for a piece. Of several, that of the first in order.
    """
    if not pieces:
        return
    from pyspark.sql.connect import functions

    listed = pa.table(
        {"number": pa.array(range(len(pieces)), pa.int64()), "piece": [pickle.dumps(piece) for piece in pieces]}
    )
    # A range of so many partitions has a row in each: no task gets two pieces while another has none.
    numbers = session.range(0, len(pieces), 1, len(pieces)).withColumnRenamed("id", "number")
    spread = numbers.join(functions.broadcast(session.createDataFrame(listed)), "number")
    outcomes = spread.mapInArrow(_Task(work), "number long, outcome string")
    for place, row in enumerate(outcomes.toLocalIterator()):
        assert row["number"] == place  # Spark gives partitions in their order
        outcome: Json = json.loads(row["outcome"])
        if "error" in outcome:
            raise rebuild_error(outcome["error"])
        yield outcome["result"]


def count_cores() -> int:
    """Return how many cores the task that runs here has."""
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None
    return context.cpus()


def make_task_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder for files of the task that runs here, where Spark keeps its own: it goes with the executor."""
    places = [place for place in os.environ.get("SPARK_LOCAL_DIRS", "").split(",") if place and Path(place).is_dir()]
    return tempfile.TemporaryDirectory(prefix="endcap-", dir=places[0] if places else None)


class _Task:
    """Does the pieces of a partition. An error of Endcap is a result: Spark would try in vain, and lose its code."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number, piece in zip(*(batch.column(name).to_pylist() for name in ("number", "piece")), strict=True):
                outcome = json.dumps(self._do(piece))
                yield pa.RecordBatch.from_pydict({"number": [number], "outcome": [outcome]})

    def _do(self, piece: bytes) -> Json:
        try:
            return {"result": self._work(pickle.loads(piece))}  # noqa: S301 - of the step, as the work itself is
        except EndcapError as error:
            return {"error": describe_error(error)}
