"""A workspace's checkpoints, kept in a bucket while the work goes on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from endcap.errors import EndcapError, NotFoundError
from endcap.store.artifact_files import hash_file
from endcap.store.base import CHECKPOINT
from endcap.store.bucket import Blob, Bucket, run_parallel
from endcap.store.lease import Lease
from endcap.store.safe_paths import find_name_fault, stays_inside

POLL_SECONDS = 1.0
"""Seconds between two searches for replaced checkpoints."""
_FileVersion = tuple[int, int, int]


class CheckpointMirror:
    """Keeps the checkpoints of a workspace in a bucket while the work goes on.

    The objects are ``<name>/<generation>-<token>/<path of the checkpoint>``. Each holder of the lease writes below its
    own prefix. A process that has lost its lease and does not know it yet can therefore not overwrite the checkpoints
    of a newer holder. Of each checkpoint, the newest generation is restored.

    Parameters
    ----------
    bucket
        The bucket.
    name
        The beginning of the objects' names.
    folder
        The workspace.
    lease
        The lease on the workspace.
    progress
        Called with lines for a person.
    """

    def __init__(self, bucket: Bucket, name: str, folder: Path, lease: Lease, progress: Callable[[str], None]) -> None:
        self._bucket, self._name, self._folder, self._lease, self._tell = bucket, f"{name}/", folder, lease, progress
        self._own = f"{self._name}{lease.generation:08d}-{lease.token}/"
        self._kept: dict[str, _FileVersion] = {}
        self._old: list[str] = []
        self._failing = False
        self._alone = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="checkpoints", daemon=True)

    def start(self) -> None:
        """Restore the checkpoints of earlier holders, then begin to keep new ones."""
        self._restore()
        self._thread.start()

    def end(self) -> None:
        """Keep the last checkpoints and stop, because the work failed or is interrupted."""
        self._stop()
        self._keep()

    def clear(self) -> None:
        """Stop, and remove the checkpoints of this and earlier holders, because the work is done."""
        self._stop()
        if not self._lease.lost.is_set():
            kept = self._list_kept()
            self._bucket.remove(blob.name for generation, _, blob in kept if generation <= self._lease.generation)

    def _stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _list_kept(self) -> list[tuple[int, str, Blob]]:
        """List the generation, path and object of every checkpoint."""
        pattern = re.compile(rf"{re.escape(self._name)}(\d+)-[0-9a-f]+/(.+)")
        matches = ((pattern.fullmatch(blob.name), blob) for blob in self._bucket.list(self._name))
        return [(int(match[1]), match[2], blob) for match, blob in matches if match]

    def _restore(self) -> None:
        newest: dict[str, tuple[int, Blob]] = {}
        for generation, path, blob in self._list_kept():
            if not self._may_be_restored(path):
                self._tell(f"{self._bucket.address(blob.name)} is not the name of a checkpoint; it is ignored")
                continue
            if path not in newest or generation > newest[path][0]:
                newest[path] = (generation, blob)
            self._old.append(blob.name)
        for line in run_parallel(self._fetch, [(path, blob) for path, (_, blob) in newest.items()]):
            self._tell(line)

    def _may_be_restored(self, path: str) -> bool:
        """Tell whether an object's path is that of a checkpoint in the workspace.

        Others may write to the bucket too.
        """
        named = path.rpartition("/")[2] == CHECKPOINT and not find_name_fault(path)
        return named and stays_inside(self._folder, self._folder / path)

    def _fetch(self, what: tuple[str, Blob]) -> str:
        path, blob = what
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f"{target.name}.part")
        noted = self._bucket.stat(blob.name)
        with contextlib.suppress(NotFoundError):  # an earlier holder has ended meanwhile and removed it
            self._bucket.download(blob.name, draft)
        if noted is None or not draft.exists() or (noted.sha256 and noted.sha256 != hash_file(draft)):
            draft.unlink(missing_ok=True)
            return f"{self._bucket.address(blob.name)} is gone or damaged; its content is computed again"
        draft.replace(target)
        return f"{path} was kept by an earlier process; the work continues from it"

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self._keep()

    def _keep(self) -> None:
        """Upload the checkpoints that changed since the last time.

        A failure is reported once, and tried again next time.
        """
        with self._alone:
            if self._lease.lost.is_set():
                if not self._failing:
                    self._tell("another process took over this work and keeps the checkpoints now")
                self._failing = True
                return
            try:
                for file in sorted(self._folder.rglob(CHECKPOINT)):
                    self._upload(file)
                self._bucket.remove(self._old)
                self._old = []
                self._failing = False
            except (EndcapError, OSError) as error:  # OSError: the file was written in place and not renamed
                if not self._failing:
                    self._tell(f"checkpoints cannot be kept at the moment: {error}")
                self._failing = True

    def _upload(self, file: Path) -> None:
        path = str(file.relative_to(self._folder))
        # The open file stays the same, even if another file is renamed over its name meanwhile.
        with contextlib.suppress(FileNotFoundError), file.open("rb") as handle:
            state = os.fstat(handle.fileno())
            version = (state.st_ino, state.st_mtime_ns, state.st_size)
            if self._kept.get(path) != version:
                checksum = hashlib.file_digest(handle, "sha256").hexdigest()
                self._bucket.upload(self._own + path, handle, checksum)
                self._kept[path] = version
