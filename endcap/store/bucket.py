"""One bucket of an S3 server: whole objects, conditional writes, retries, and errors in words."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import certifi
import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject
from minio.error import ServerError

from endcap.client_faults import find_page_title
from endcap.errors import NotFoundError, UserError
from endcap.retries import RetryLimits, RetryLoop
from endcap.store.s3_errors import (
    CONDITION,
    FOREIGN,
    NOT_CAPABLE,
    StorePageError,
    get_error_code,
    is_transient,
    summarise_error,
    translate_error,
)
from endcap.store.s3_settings import ENDPOINTS, S3Settings

T = TypeVar("T")
S = TypeVar("S")
RETRY_WAITS = (0.5, 1.5, 4.0)
"""Seconds before an operation is tried again, give or take a half; within each, a request is sent up to three times."""
PARALLEL_FILES, PARALLEL_PARTS = 4, 3
"""How many objects are written or read at once, and how many parts of each."""
PARALLEL_REQUESTS = 16
"""How many small requests are sent at once."""
PART_BYTES = 8 << 20
MAX_PARTS = 10_000
PAGE = 1000
"""Objects that a server lists at once."""
_PIECE_BYTES = 1 << 20
_REREAD_SECONDS = 0.1
"""Seconds between two looks at an object whose etag is not its bytes' checksum."""
_TORN_SECONDS = 10.0
"""Seconds after which an etag that is not the bytes' checksum counts as another kind of etag."""
_SHA256, _WRITER = "sha256", "writer"
"""Names of the notes that are stored with an object."""


@dataclass(frozen=True)
class Blob:
    """An object of a bucket, as it was when it was read.

    Attributes
    ----------
    name
        The object's name.
    bytes
        Its size.
    etag
        The server's mark of its content.
    age
        The time since it was written, by the server's clock; None if the server does not say.
    sha256
        The checksum that its uploader noted; None if there is none.
    changed
        When it was written; None if the server does not say.
    writer
        The writer that was noted; None if there is none.
    """

    name: str
    bytes: int
    etag: str
    age: timedelta | None = None
    sha256: str | None = None
    changed: datetime | None = None
    writer: str | None = None


class Bucket:
    """One bucket of an S3 server. Any number of threads may share it.

    Every method takes names of objects, and every error contains the object's address. A request that fails for a
    reason that may pass is repeated.

    Parameters
    ----------
    name
        The bucket's name.
    settings
        The server's address and the credentials.
    """

    def __init__(self, name: str, settings: S3Settings) -> None:
        self.name, self.settings = name, settings
        self._checksums: bool | None = None
        """Whether the server's etags are the bytes' MD5; None: this is not known yet."""
        try:
            self._client = Minio(
                settings.host,
                access_key=settings.access_key,
                secret_key=settings.secret_key,
                session_token=settings.session_token,
                secure=settings.secure,
                region=settings.region,
                http_client=_make_transport(settings),
            )
        except ValueError as error:  # the client refuses the host
            raise UserError(
                f"{ENDPOINTS[0]}: {settings.host} is refused ({error}); allowed: a host's name or number, and a port",
                code="store.endpoint-malformed",
                variable=ENDPOINTS[0],
                found=settings.host,
            ) from None

    def address(self, name: str = "") -> str:
        """Return the address of an object, or of the bucket."""
        return f"s3://{self.name}/{name}".rstrip("/")

    def check(self, name: str) -> None:
        """Ask for an object, so that a wrong host, bucket or key is reported before any work.

        The object need not exist.
        """
        # Without the right to list, a server answers AccessDenied for an object that does not exist. A right that is
        # missing is reported when it is needed.
        with contextlib.suppress(NotFoundError, *FOREIGN):
            self._ask("read", name, lambda: self._get(name), expected={"AccessDenied"})

    def read(self, name: str) -> tuple[bytes, Blob] | None:
        """Read a small object.

        Parameters
        ----------
        name
            The object's name.

        Returns
        -------
        tuple of bytes and Blob, or None
            The content, and the object with the etag of this content; None if there is no such object.

        Notes
        -----
        A condition on the etag must be a condition on these bytes. Some servers return the old bytes with the new etag
        for a moment, and busy servers for longer. On most servers the etag is the MD5 of the bytes. If that was true
        for an earlier object of the server, the object is read again until it is true for this one. On other servers
        the etag counts when two reads in a row give the same bytes and the same etag.
        """
        before, end = None, time.monotonic() + _TORN_SECONDS
        while True:
            stored = self._call_or_none("read", name, lambda: self._get(name))
            if stored is None or self._matches_etag(stored[0], stored[1].etag):
                return stored
            if time.monotonic() > end:
                self._checksums = False  # for example, newer objects are encrypted with the user's key
            if not self._checksums and before == (stored[0], stored[1].etag):
                return stored
            before = stored[0], stored[1].etag
            time.sleep(_REREAD_SECONDS)

    def _matches_etag(self, content: bytes, etag: str) -> bool:
        """Whether an etag is the checksum of the bytes."""
        fits = etag == hashlib.md5(content, usedforsecurity=False).hexdigest()
        if fits and self._checksums is None:
            self._checksums = True
        return fits

    def stat(self, name: str) -> Blob | None:
        """Return an object's properties without its content; None if there is no such object."""

        def head() -> Blob:
            reply = self._client.stat_object(self.name, name)
            return _parse_blob(name, reply.metadata or {}, bytes_=reply.size)

        return self._call_or_none("look at", name, head)

    def write(self, name: str, content: bytes, *, absent: bool = False, etag: str = "", writer: str = "") -> str | None:
        """Write a small object in one step.

        Parameters
        ----------
        name
            The object's name.
        content
            Its bytes.
        absent
            Write only if there is no such object.
        etag
            Write only over the object with this etag.
        writer
            A note that is stored with the object, by which a writer recognises its own.

        Returns
        -------
        str or None
            The new etag. None: a condition did not hold, and nothing was written.

        Notes
        -----
        A server without conditional writes writes in any case. If an answer was lost and the request was repeated, None
        may stand for a write that succeeded: read the object again to find out.
        """
        condition = {"If-None-Match": "*"} if absent else {"If-Match": f'"{etag}"'} if etag else {}

        def put(headers: Mapping[str, str]) -> str:
            # The client's public method has no conditions: it would send them as metadata.
            noted = {f"x-amz-meta-{_WRITER}": writer} if writer else {}
            kept: Any = {"Content-Type": "application/json", **noted, **headers}
            return str(self._client._put_object(self.name, name, content, kept).etag)

        try:
            return self._ask("write", name, lambda: put(condition), expected=CONDITION | NOT_CAPABLE)
        except FOREIGN as error:
            if get_error_code(error) in CONDITION:
                return None
            if condition:
                return self._ask("write", name, lambda: put({}))
            raise translate_error(error, "write", self.address(name), self.settings) from error
        except NotFoundError:
            return None  # the object that was to be replaced is gone

    def upload(self, name: str, handle: BinaryIO, sha256: str) -> None:
        """Write an object from an open file, a large one in parts. The server checks the checksum of each part.

        Parameters
        ----------
        name
            The object's name.
        handle
            The open file.
        sha256
            The file's checksum, which is stored with the object.
        """
        size = os.fstat(handle.fileno()).st_size

        def put() -> None:
            handle.seek(0)
            self._client.put_object(
                self.name,
                name,
                handle,
                size,
                metadata={_SHA256: sha256},
                part_size=max(PART_BYTES, -(-size // MAX_PARTS)),
                num_parallel_uploads=PARALLEL_PARTS,
            )

        self._ask("write", name, put)

    def download(self, name: str, file: Path, *, etag: str = "") -> None:
        """Write an object's bytes to a file. If the file exists, the download goes on after its last byte.

        Parameters
        ----------
        name
            The object's name.
        file
            The file.
        etag
            Download only the object with this etag; empty: any.

        Raises
        ------
        NotFoundError
            There is no such object, or it has another etag.
        """
        headers: Any = {"If-Match": f'"{etag}"'} if etag else None

        def get() -> None:
            held = file.stat().st_size if file.exists() else 0
            response = self._client.get_object(self.name, name, offset=held, request_headers=headers)
            try:
                if held and response.status != 206:
                    file.unlink()  # the server ignores ranges and sends the whole object
                with file.open("ab") as handle:
                    for piece in response.stream(_PIECE_BYTES):
                        handle.write(piece)
            finally:
                response.close()
                response.release_conn()

        try:
            self._ask("read", name, get, expected={*CONDITION, "InvalidRange"})
        except FOREIGN as error:
            if get_error_code(error) in CONDITION:
                address = self.address(name)
                raise NotFoundError(
                    f"{address} was replaced during the download; try again",
                    code="store.object-replaced",
                    address=address,
                ) from None
            file.unlink()  # the file is longer than the object
            self._ask("read", name, get)

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket; the server copies. Raises NotFoundError if the source is gone."""
        copy_source = CopySource(self.name, source)

        def ask() -> None:
            try:
                self._client.copy_object(self.name, target, copy_source)
            except ValueError as error:  # servers answer 200 before they have copied, and may then send an error
                raise ServerError(str(error), 500) from error

        self._ask("copy", source, ask)

    def list_page(self, prefix: str, *, after: str = "") -> list[Blob]:
        """List up to a thousand objects whose names begin with a prefix, in the order of their names.

        Parameters
        ----------
        prefix
            The beginning of the names.
        after
            List only names behind this one; empty: from the first on.
        """

        def ask() -> list[Blob]:
            # The client asks for the next page when this one is used up.
            objects = self._client.list_objects(self.name, prefix, recursive=True, start_after=after or None)
            return [
                Blob(str(listed.object_name), listed.size or 0, (listed.etag or "").strip('"'))
                for listed in itertools.islice(objects, PAGE)
            ]

        return self._ask("list", prefix, ask)

    def list(self, prefix: str, *, recursive: bool = True) -> list[Blob]:
        """List the objects whose names begin with a prefix, in no particular order.

        Parameters
        ----------
        prefix
            The beginning of the names.
        recursive
            List all objects. Otherwise list only those right below the prefix, and folders, whose names end in ``/``.
        """

        def ask() -> list[Blob]:
            objects = self._client.list_objects(self.name, prefix, recursive=recursive)
            return [
                Blob(str(listed.object_name), listed.size or 0, listed.etag or "", changed=listed.last_modified)
                for listed in objects
            ]

        return self._ask("list", prefix, ask)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects. It is no error if one does not exist."""
        listed = list(names)

        def together() -> list[str]:
            errors = self._client.remove_objects(self.name, [DeleteObject(name) for name in listed])
            return [str(error.name) for error in errors]

        try:
            remaining = (
                self._ask("remove", "", together, expected=NOT_CAPABLE | {"AccessDenied"}) if listed[1:] else listed
            )
        except FOREIGN:
            remaining = listed  # some servers cannot remove several objects in one request
        for _ in run_parallel(
            lambda name: self._ask("remove", name, lambda: self._remove(name)), remaining, PARALLEL_REQUESTS
        ):
            pass

    def _get(self, name: str) -> tuple[bytes, Blob]:
        response = self._client.get_object(self.name, name)
        try:
            return response.read(), _parse_blob(name, response.headers)
        finally:
            response.close()
            response.release_conn()

    def _remove(self, name: str) -> None:
        self._client.remove_object(self.name, name)

    def _call_or_none(self, doing: str, name: str, call: Callable[[], T]) -> T | None:
        try:
            return self._ask(doing, name, call)
        except NotFoundError:
            return None

    def _ask(self, doing: str, name: str, call: Callable[[], T], expected: Iterable[str] = ()) -> T:
        """Call until it succeeds or fails for good. Errors with an expected code are raised unchanged."""
        waiting = RetryLoop(f"the store at {self.settings.endpoint}", RetryLimits(total=math.inf))  # WAITS end it
        for wait in (*RETRY_WAITS, None):
            try:
                result = call()
            except FOREIGN as error:
                if get_error_code(error) in set(expected):
                    raise
                after = wait and wait * random.uniform(0.5, 1.5)  # noqa: S311 (no secret)
                if after is None or not is_transient(error) or not waiting.again(summarise_error(error), after=after):
                    raise translate_error(error, doing, self.address(name), self.settings) from error
            else:
                waiting.over()
                return result
        raise AssertionError("the last wait is None")


def run_parallel(call: Callable[[S], T], arguments: Iterable[S], workers: int = PARALLEL_FILES) -> Iterator[T]:
    """Call a function for each argument, several at a time.

    Parameters
    ----------
    call
        The function.
    arguments
        Its arguments, one for each call.
    workers
        The number of threads.

    Yields
    ------
    object
        The results, in the order of the arguments. After the first failure no further call begins, and the failure is
        raised.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="s3") as pool:
        futures = [pool.submit(call, argument) for argument in arguments]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


class _Transport(urllib3.PoolManager):
    """Refuses web pages, because a login in front of the server answers all requests with 200, even uploads."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **words: Any) -> Any:  # type: ignore[override]
        answer = super().urlopen(method, url, redirect, **words)
        # A stored web page has an etag. Servers send errors with any content type, and failures as web pages too.
        if "html" in answer.headers.get("content-type", "") and "etag" not in answer.headers and answer.status < 500:
            title = find_page_title(answer.data.decode(errors="replace"))
            if title is not None or (method == "HEAD" and answer.status < 300):
                raise StorePageError(answer.status, title or "")
        return answer


def _make_transport(settings: S3Settings) -> urllib3.PoolManager:
    # The pool warns each time that it closes a connection beyond its size.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return _Transport(
        maxsize=PARALLEL_REQUESTS,
        timeout=urllib3.Timeout(connect=5, read=60),
        cert_reqs="CERT_REQUIRED",
        ca_certs=settings.ca or certifi.where(),
        retries=urllib3.Retry(
            total=2,
            backoff_factor=0.3,
            backoff_jitter=0.3,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,  # every request may be sent twice: none adds to what is there
            raise_on_status=False,
        ),
    )


def _parse_blob(name: str, headers: Mapping[str, Any], bytes_: int | None = None) -> Blob:
    changed, now = (_parse_time(headers.get(header)) for header in ("last-modified", "date"))
    return Blob(
        name,
        int(headers.get("content-length", 0)) if bytes_ is None else bytes_,
        str(headers.get("etag", "")).strip('"'),
        now - changed if changed and now else None,
        headers.get(f"x-amz-meta-{_SHA256}"),
        changed,
        headers.get(f"x-amz-meta-{_WRITER}"),
    )


def _parse_time(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
