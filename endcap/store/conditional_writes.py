"""Whether an S3 server keeps to the conditions of a write: changes that must not be lost rest on them."""

from __future__ import annotations

from endcap.errors import StorageError
from endcap.store.bucket import Bucket
from endcap.store.s3_settings import CONDITIONS

PROBE = ".conditions"
"""The object that the server is tried with. It is never removed, so that each later try writes nothing."""
_CONTENT = b"Endcap tries here whether the server keeps to If-Match and If-None-Match.\n"
_NO_ETAG = "0" * 32


class ConditionalWrites:
    """Finds out whether a server supports conditional writes. It is tried once, when that is first needed.

    Parameters
    ----------
    bucket
        The bucket.
    name
        The name of the object that the server is tried with.
    """

    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket, self._name = bucket, name
        self._supported: bool | None = None

    def require(self, what: str) -> None:
        """Check that two processes can change something at once without losing a change.

        Parameters
        ----------
        what
            What is to be changed, for the message.

        Raises
        ------
        StorageError
            The server ignores conditions (`store.no-conditions`). This is not checked if the settings say that two
            processes never change anything at once.
        """
        if self._bucket.settings.alone:
            return
        if self._supported is None:
            self._supported = self._test_server()
        if not self._supported:
            endpoint = self._bucket.settings.endpoint
            raise StorageError(
                f"cannot change {what}: {endpoint} ignores the conditions If-Match and If-None-Match, so that one of "
                "two simultaneous changes would be lost. Use a server with conditional writes, such as Amazon S3, "
                f"MinIO, R2 or versitygw; or, if two processes never change anything at once, set {CONDITIONS}=none",
                code="store.no-conditions",
                what=what,
                endpoint=endpoint,
                variable=CONDITIONS,
            )

    def _test_server(self) -> bool:
        """Tell whether the server keeps to conditions."""
        etag = self._bucket.write(self._name, _CONTENT, absent=True)
        if etag is not None and self._bucket.write(self._name, _CONTENT, absent=True) is not None:
            return False
        if self._bucket.write(self._name, _CONTENT, etag=_NO_ETAG) is not None:
            return False
        self._bucket.read(self._name)  # finds out what the server's etags are
        return True
