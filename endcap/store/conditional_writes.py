"""Whether an S3 server keeps to the conditions of a write: changes that must not be lost rest on them."""

from __future__ import annotations

from endcap.errors import StorageError
from endcap.store.bucket import Bucket
from endcap.store.s3_settings import CONDITIONS

PROBE = ".conditions"
"""The object that the server is tried with. It stays, so that each try after the first writes nothing."""
_CONTENT = b"Endcap tries here whether the server keeps to If-Match and If-None-Match.\n"
_NO_ETAG = "0" * 32


class ConditionalWrites:
    """What is known of one server: it is tried once, by whoever first needs to know."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        """name: of the object that the server is tried with."""
        self._bucket, self._name = bucket, name
        self._kept: bool | None = None

    def require(self, what: str) -> None:
        """Raise StorageError where two processes that change `what` at once could lose a change.

        Where the settings say that no two ever do, it is not looked at.
        """
        if self._bucket.settings.alone:
            return
        if self._kept is None:
            self._kept = self._keeps()
        if not self._kept:
            endpoint = self._bucket.settings.endpoint
            raise StorageError(
                f"cannot change {what}: {endpoint} writes over an object although it is told not to (If-Match, "
                "If-None-Match), so that of two changes at once one would be lost. Use a server with conditional "
                "writes, such as Amazon S3, MinIO, R2 or versitygw; or, where never two processes change anything at "
                f"once, set {CONDITIONS}=none",
                code="store.no-conditions",
                what=what,
                endpoint=endpoint,
                variable=CONDITIONS,
            )

    def _keeps(self) -> bool:
        etag = self._bucket.write(self._name, _CONTENT, absent=True)
        if etag is not None and self._bucket.write(self._name, _CONTENT, absent=True) is not None:
            return False
        if self._bucket.write(self._name, _CONTENT, etag=_NO_ETAG) is not None:
            return False
        self._bucket.read(self._name)  # so that it is known what the server's etags are
        return True
