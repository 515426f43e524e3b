"""One bucket of an S3 server: whole objects, conditional writes, retries, and errors in words."""

from __future__ import annotations

import contextlib
import hashlib
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
"""Objects that are written or read at once, and parts of each."""
PARALLEL_REQUESTS = 16
"""Requests of few bytes that are under way at once."""
PART_BYTES = 8 << 20
MAX_PARTS = 10_000
_PIECE_BYTES = 1 << 20
_REREAD_SECONDS = 0.1
"""Seconds between two looks at an object whose etag is not its bytes' checksum."""
_TORN_SECONDS = 10.0
"""Seconds after which an etag that does not fit its bytes is none of their checksum."""
_SHA256, _WRITER = "sha256", "writer"
"""Notes that lie beside an object."""


@dataclass(frozen=True)
class Blob:
    """An object as it was met. age: since it was written, by the server's own clock; None where it does not say."""

    name: str
    bytes: int
    etag: str
    age: timedelta | None = None
    sha256: str | None = None
    """As noted at its upload."""
    changed: datetime | None = None
    writer: str | None = None
    """As noted at its writing."""


class Bucket:
    """Names are those of objects; every error names the object's address. Safe to use from several threads."""

    def __init__(self, name: str, settings: S3Settings) -> None:
        self.name, self.settings = name, settings
        self._checksums: bool | None = None
        """Whether the server's etags are the bytes' MD5; None: not known yet."""
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
        except ValueError as error:  # of a host that it does not like
            raise UserError(
                f"{ENDPOINTS[0]}: {settings.host} is refused ({error}); allowed: a host's name or number, and a port",
                code="store.endpoint-malformed",
                variable=ENDPOINTS[0],
                found=settings.host,
            ) from None

    def address(self, name: str = "") -> str:
        return f"s3://{self.name}/{name}".rstrip("/")

    def check(self, name: str) -> None:
        """Ask for an object that need not be there, so that a wrong host, bucket or key is told before any work."""
        # Without the right to list, a server denies what is not there. What is needed later tells for itself.
        with contextlib.suppress(NotFoundError, *FOREIGN):
            self._ask("read", name, lambda: self._get(name), expected={"AccessDenied"})

    def read(self, name: str) -> tuple[bytes, Blob] | None:
        """A small object's bytes, or None where there is none.

        A condition on the etag must be one on these bytes. There are servers that for a moment give the old bytes with
        the new etag, and busy ones for longer. An etag is mostly the bytes' MD5: of a server where it was so before, it
        is looked at until it is so again. Of another server it counts when two looks find both the same.
        """
        before, end = None, time.monotonic() + _TORN_SECONDS
        while True:
            stored = self._or_none("read", name, lambda: self._get(name))
            if stored is None or self._fits(stored[0], stored[1].etag):
                return stored
            if time.monotonic() > end:
                self._checksums = False  # as of a bucket whose newer objects are encrypted with a key of one's own
            if not self._checksums and before == (stored[0], stored[1].etag):
                return stored
            before = stored[0], stored[1].etag
            time.sleep(_REREAD_SECONDS)

    def _fits(self, content: bytes, etag: str) -> bool:
        """Whether an etag is the checksum of the bytes."""
        fits = etag == hashlib.md5(content, usedforsecurity=False).hexdigest()
        if fits and self._checksums is None:
            self._checksums = True
        return fits

    def stat(self, name: str) -> Blob | None:
        """What an object is, or None where there is none."""

        def head() -> Blob:
            reply = self._client.stat_object(self.name, name)
            return _parse_blob(name, reply.metadata or {}, bytes_=reply.size)

        return self._or_none("look at", name, head)

    def write(self, name: str, content: bytes, *, absent: bool = False, etag: str = "", writer: str = "") -> str | None:
        """Write a small object in one step; its etag. With a condition that does not hold: None, nothing is written.

        absent: only where there is none; etag: only over this one. A server that knows no conditions writes all the
        same. Where an answer was lost and asked for again, None may stand for a write that went well: read it back.
        writer: noted beside the object, by which a writer knows its own.
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
            return None  # the one that it was to go over is gone

    def upload(self, name: str, handle: BinaryIO, sha256: str) -> None:
        """Write an object from an open file, in parts where it is large; each part's checksum is checked on arrival."""
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
        """Write an object's bytes to a file, going on behind what the file holds already.

        etag: only this one. Raises NotFoundError where it is gone or another.
        """
        headers: Any = {"If-Match": f'"{etag}"'} if etag else None

        def get() -> None:
            held = file.stat().st_size if file.exists() else 0
            response = self._client.get_object(self.name, name, offset=held, request_headers=headers)
            try:
                if held and response.status != 206:
                    file.unlink()  # the server knows no ranges and sends all of it
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
                    f"{address} was replaced meanwhile", code="store.object-replaced", address=address
                ) from None
            file.unlink()  # it held more than there is
            self._ask("read", name, get)

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket, by the server. Raises NotFoundError where the source is gone."""
        copied = CopySource(self.name, source)

        def ask() -> None:
            try:
                self._client.copy_object(self.name, target, copied)
            except ValueError as error:  # an answer of 200 that holds an error: servers begin to answer before they end
                raise ServerError(str(error), 500) from error

        self._ask("copy", source, ask)

    def list(self, prefix: str, *, recursive: bool = True) -> list[Blob]:
        """Objects whose names begin with `prefix`, in no order; not recursive: those, and folders, ending in /."""

        def ask() -> list[Blob]:
            objects = self._client.list_objects(self.name, prefix, recursive=recursive)
            return [
                Blob(str(listed.object_name), listed.size or 0, listed.etag or "", changed=listed.last_modified)
                for listed in objects
            ]

        return self._ask("list", prefix, ask)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; one that is not there is as good as removed."""
        listed = list(names)

        def together() -> list[str]:
            errors = self._client.remove_objects(self.name, [DeleteObject(name) for name in listed])
            return [str(error.name) for error in errors]

        try:
            left = self._ask("remove", "", together, expected=NOT_CAPABLE | {"AccessDenied"}) if listed[1:] else listed
        except FOREIGN:
            left = listed  # not every server removes several at once
        for _ in run_parallel(
            lambda name: self._ask("remove", name, lambda: self._remove(name)), left, PARALLEL_REQUESTS
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

    def _or_none(self, doing: str, name: str, call: Callable[[], T]) -> T | None:
        try:
            return self._ask(doing, name, call)
        except NotFoundError:
            return None

    def _ask(self, doing: str, name: str, call: Callable[[], T], expected: Iterable[str] = ()) -> T:
        """Call until it goes well, or fails for good. expected: codes whose error the caller understands itself."""
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
    """Results in the arguments' order. After a first failure nothing more is begun, and that failure is raised."""
    with ThreadPoolExecutor(workers, thread_name_prefix="s3") as pool:
        futures = [pool.submit(call, argument) for argument in arguments]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


class _Transport(urllib3.PoolManager):
    """Refuses pages for people: a login before the server answers all requests with 200, uploads too."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **words: Any) -> Any:  # type: ignore[override]
        answer = super().urlopen(method, url, redirect, **words)
        # An object's own page has an etag. Servers send their errors under any type, and fail with pages too.
        if "html" in answer.headers.get("content-type", "") and "etag" not in answer.headers and answer.status < 500:
            title = find_page_title(answer.data.decode(errors="replace"))
            if title is not None or (method == "HEAD" and answer.status < 300):
                raise StorePageError(answer.status, title or "")
        return answer


def _make_transport(settings: S3Settings) -> urllib3.PoolManager:
    # Connections beyond the pool's size are closed after use, which it would warn of each time.
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
