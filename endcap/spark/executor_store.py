"""The store of a step as Spark's executors open it, each for itself: no file of the log passes through the driver."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from endcap.errors import EndcapError, UserError
from endcap.store import Store, get_release, open_store
from endcap.store.staging import open_staged_files, stage_files

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

PROBES = 4
"""Tasks that try the store, side by side."""
_TOKEN = "token"  # noqa: S105 - a file's name
_ANSWERS = "answers"
_COLUMNS = "release string, code string, reason string"


@dataclass(frozen=True)
class ExecutorStore:
    """A store as it is sent to executors: its address alone, without secrets.

    An executor opens a folder at the same path, and a bucket with the settings of its own environment
    (`endcap.store.s3_settings`).

    Attributes
    ----------
    root
        The store's address.
    """

    root: str

    def open(self) -> Store:
        """Open the store on the machine where this is called.

        Raises
        ------
        NotFoundError
            The store is a folder that this machine does not have.
        UserError
            The settings of the S3 server are missing here, or wrong.
        StorageError, TransientError
            The disk or the server refuses.
        """
        return open_store(self.root, create=False)


def check_executors(session: SparkSession, store: Store) -> ExecutorStore:
    """Check that executors read what the step writes to the store, that the step reads what they write, and that they
    have this release of Endcap. Return the store for them.

    Parameters
    ----------
    session
        The session.
    store
        The step's store.

    Raises
    ------
    UserError
        An executor cannot use the store (`spark.executors-lack-store`), or has another release
        (`spark.release-differs`).
    """
    token = uuid.uuid4().hex
    with stage_files(store.root) as staged:
        staged.write(_TOKEN, lambda file: _write(file, token))
        probe = StoreProbe(staged.address, token)
        rows = session.range(PROBES, numPartitions=PROBES).mapInArrow(probe, _COLUMNS).collect()
        for row in rows:
            _check_answer(row.asDict(), store.root)
        answers = set(staged.list(_ANSWERS))
    if len(answers) < PROBES:
        raise _make_store_error(store.root, "what they write there does not arrive: they have another folder", "")
    return ExecutorStore(store.root)


def _check_answer(answer: dict[str, str], root: str) -> None:
    if answer["code"] or answer["reason"]:
        raise _make_store_error(root, answer["reason"], answer["code"])
    if answer["release"] != get_release():
        raise UserError(
            f"spark: executors have Endcap {answer['release']}, and the step has {get_release()}. Give executors an "
            "image, or an environment, with the step's release",
            code="spark.release-differs",
            actual=answer["release"],
            expected=get_release(),
        )


def _make_store_error(root: str, reason: str, cause: str) -> UserError:
    where = (
        "the settings of the S3 server in their environment, such as the Secret endcap-store"
        if root.startswith("s3://")
        else "the store's folder, at the same path"
    )
    return UserError(
        f"spark: executors cannot use the store {root}: {reason}. All of them need {where}",
        code="spark.executors-lack-store",
        store=root,
        reason=reason,
        cause=cause,
    )


class StoreProbe:
    """Reads a place in the store on an executor, and writes there.

    Parameters
    ----------
    address
        The place (`endcap.store.staging`).
    token
        What the step wrote there.
    """

    def __init__(self, address: str, token: str) -> None:
        self._address, self._token = address, token

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Try once for each task that has rows, and say what failed."""
        if sum(batch.num_rows for batch in batches):
            code, reason = "", ""
            try:
                self._try()
            except EndcapError as error:
                code, reason = error.code, str(error)
            except OSError as error:
                reason = str(error)
            answer: dict[str, list[Any]] = {"release": [get_release()], "code": [code], "reason": [reason]}
            yield pa.RecordBatch.from_pydict(answer)

    def _try(self) -> None:
        staged = open_staged_files(self._address)
        with tempfile.TemporaryDirectory(prefix="endcap-") as folder:
            if staged.fetch(_TOKEN, Path(folder)).read_text() != self._token:
                raise OSError("another file lies there")
        staged.write(f"{_ANSWERS}/{uuid.uuid4().hex}", lambda file: _write(file, self._token))


def _write(file: Path, text: str) -> None:
    file.write_text(text)
