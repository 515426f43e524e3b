"""Read a table by the Storage Read API: Arrow in parallel streams, in bounded memory, each resumed where it broke."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from endcap.retries import RetryLoop
from endcap.sources.bigquery.client import TIMEOUT, Warehouse
from endcap.sources.bigquery.compile import TableName
from endcap.sources.bigquery.errors import convert_error, get_pause, is_passing

WAITING = 2
"""Messages that wait to be taken, of all streams together. A message of BigQuery has a few megabytes at most."""
_LOOK = 0.2
"""Seconds after which a stream looks whether anybody still reads."""


@dataclass(frozen=True)
class ReadRequest:
    """The rows to read.

    Attributes
    ----------
    table
        The table.
    fields
        Columns, and fields of structs with dots.
    restriction
        The condition on rows. Empty: all.
    moment
        The time at which the table is read. None: now.
    streams
        The most streams to read at once.
    """

    table: TableName
    fields: Sequence[str]
    restriction: str
    moment: datetime | None
    streams: int


class ReadSession:
    """A read session: a state of the table, cut into streams.

    Parameters
    ----------
    warehouse
        Where to read.
    request
        What to read.

    Attributes
    ----------
    name : str
        The session's name at BigQuery.
    schema : pyarrow.Schema
        The columns.
    rows : int
        The rows that the warehouse says it has sent so far.

    Raises
    ------
    DataError
        If the table is not there or must not be read.
    TransientError
        If BigQuery does not answer.
    """

    def __init__(self, warehouse: Warehouse, request: ReadRequest) -> None:
        self._warehouse, self._label = warehouse, str(request.table)
        session = warehouse.call(self._label, lambda: self._create(request))
        self.name, self.rows = session.name, 0
        self._streams = [stream.name for stream in session.streams]
        self.schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._messages: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(WAITING)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all streams, as they come. Raises as the session does."""
        threads = [
            threading.Thread(target=self._run, args=(stream,), name=f"bigquery-{place}", daemon=True)
            for place, stream in enumerate(self._streams)
        ]
        for thread in threads:
            thread.start()
        try:
            open_streams = len(threads)
            while open_streams:
                message = self._messages.get()
                if isinstance(message, BaseException):
                    raise message
                if message is None:
                    open_streams -= 1
                else:
                    yield message
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _create(self, request: ReadRequest) -> Any:
        from google.cloud.bigquery_storage_v1 import types

        codec = types.ArrowSerializationOptions.CompressionCodec.LZ4_FRAME
        session = types.ReadSession(
            table=request.table.path,
            data_format=types.DataFormat.ARROW,
            read_options=types.ReadSession.TableReadOptions(
                selected_fields=list(request.fields),
                row_restriction=request.restriction,
                arrow_serialization_options=types.ArrowSerializationOptions(buffer_compression=codec),
            ),
        )
        if request.moment is not None:
            session.table_modifiers = types.ReadSession.TableModifiers(snapshot_time=request.moment)
        return self._warehouse.storage.create_read_session(
            parent=f"projects/{self._warehouse.project}",
            read_session=session,
            max_stream_count=request.streams,
            retry=None,
            timeout=TIMEOUT,
        )

    def _run(self, stream: str) -> None:
        """Read a stream in a thread of its own, and pass on its rows, its error or its end."""
        try:
            self._read(stream)
        except BaseException as error:  # whatever it is, the reader has to know
            self._put(error)
        else:
            self._put(None)

    def _read(self, stream: str) -> None:
        from google.api_core.exceptions import GoogleAPIError

        offset, attempts = 0, RetryLoop("BigQuery", self._warehouse.patience)
        while not self._ended.is_set():
            try:
                answers: Any = self._warehouse.storage.read_rows(read_stream=stream, offset=offset, retry=None)
                for answer in answers:
                    message = pa.py_buffer(answer.arrow_record_batch.serialized_record_batch)
                    rows = answer.row_count
                    del answer  # it holds the message a second time, and a thread may wait here for long
                    if not self._put(pa.ipc.read_record_batch(message, self.schema)):
                        answers.cancel()
                        return
                    offset += rows
                    del message
                    with self._lock:
                        self.rows += rows
                    attempts.over()
                    attempts = RetryLoop("BigQuery", self._warehouse.patience)  # it goes on
            except GoogleAPIError as error:
                if not (is_passing(error) and attempts.again(str(error), after=get_pause(error))):
                    raise convert_error(error, self._label) from None
            else:
                return

    def _put(self, message: pa.RecordBatch | BaseException | None) -> bool:
        """Pass a message on; return False if nobody reads any more."""
        while not self._ended.is_set():
            try:
                self._messages.put(message, timeout=_LOOK)
            except queue.Full:
                continue
            return True
        return False
