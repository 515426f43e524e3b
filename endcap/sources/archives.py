"""Archives that hold one file: zip and tar, the latter compressed or not. They are read as a stream.

Nothing of an archive is written under its own name, and no member's path is followed.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from endcap.errors import DataError
from endcap.sources.streams import open_stream

ARCHIVES = {".zip": "zip", ".tar": "tar", ".tgz": "tar", ".tbz2": "tar", ".txz": "tar"}
"""Suffixes of archives. A compressed tar may have a further suffix."""
LARGEST_RATIO, SMALL = 200, 1 << 30
"""A file that becomes larger than SMALL bytes, and than so many times its packed size, is refused. Logs become 5 to 50
times as large."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_LISTED = 10


@dataclass(frozen=True)
class ArchiveMember:
    """The only file of an archive: its name there, and its bytes once it is unpacked."""

    name: str
    bytes: int


def find_member(name: str, path: Path, kind: str) -> ArchiveMember:
    """Return the file that an archive holds. In a tar it is the first; further show when it is read to its end.

    Parameters
    ----------
    name
        The archive's name in errors.
    path
        The local file.
    kind
        `zip` or `tar`.

    Raises
    ------
    DataError
        If there is none or another file (`events.archive-members`), if the file is an archive itself
        (`events.archive-nested`) or encrypted (`events.archive-encrypted`), is compressed in a way that is not read
        (`events.archive-method`), has an absolute path or one that leads out, or is no regular file
        (`events.archive-entry`), or if it would become very large (`events.archive-bomb`).
    """
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            entry = _find_zip_entry(name, archive)
            return ArchiveMember(entry.filename, entry.file_size)
    with open_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive_of_tar:
        member = _find_tar_entry(name, archive_of_tar, path.stat().st_size)
        return ArchiveMember(member.name, member.size)


def open_member(name: str, path: Path, kind: str) -> IO[bytes]:
    """Open the only file of an archive. Parameters and errors are as in `find_member`, also while a tar is read."""
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            return archive.open(_find_zip_entry(name, archive))
    return io.BufferedReader(_TarStream(name, path), 1 << 20)


def check_growth(name: str, size: int, packed: int) -> None:
    """Raise DataError if a file of so many packed bytes becomes suspiciously large."""
    if size > SMALL and size > LARGEST_RATIO * packed:
        raise DataError(
            f"{name}: {packed:,} bytes become {size:,}, which is more than {LARGEST_RATIO} times as much, as in a file "
            "made to fill a disk; if you trust it, unpack it yourself and name what comes out",
            code="events.archive-bomb",
            path=name,
            packed=packed,
            bytes=size,
            limit=LARGEST_RATIO,
        )


class _TarStream(io.RawIOBase):
    """The first file of a tar. Its end shows whether there are further."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._stream = name, open_stream(path)
        try:
            self._archive = tarfile.open(fileobj=self._stream, mode="r|")  # noqa: SIM115 (closed with this)
            self._entry = _find_tar_entry(name, self._archive, path.stat().st_size)
            self._content: Any = self._archive.extractfile(self._entry)
        except BaseException:
            self._stream.close()
            raise
        self._is_at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._content.read(len(buffer))
        buffer[: len(data)] = data
        if not data and not self._is_at_end:
            self._is_at_end = True
            further = [entry.name for entry in _iterate(self._archive) if not _is_ignored(entry.name, entry.isdir())]
            if further:
                raise _members_error(self._name, [self._entry.name, *further])
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _find_zip_entry(name: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    entries = [entry for entry in archive.infolist() if not _is_ignored(entry.filename, entry.is_dir())]
    if len(entries) != 1:
        raise _members_error(name, [entry.filename for entry in entries])
    (entry,) = entries
    # The upper half has the mode of Unix, where the archive was made there: a link's content would be a path.
    is_special = (entry.external_attr >> 28) not in (0, 0o10)
    _check_entry(name, entry.filename, is_special=is_special)
    if entry.flag_bits & 1:
        raise DataError(
            f"{name}: {entry.filename} is encrypted; unpack it, or make the archive without a password",
            code="events.archive-encrypted",
            path=name,
            member=entry.filename,
        )
    if entry.compress_type not in _METHODS:
        method = zipfile.compressor_names.get(entry.compress_type, str(entry.compress_type))  # type: ignore[attr-defined]
        raise DataError(
            f"{name}: {entry.filename} is compressed by {method!r}; allowed: stored, deflate, bzip2, lzma. Unpack "
            "it, or make the archive anew",
            code="events.archive-method",
            path=name,
            member=entry.filename,
            found=method,
        )
    check_growth(name, entry.file_size, entry.compress_size)
    return entry


def _find_tar_entry(name: str, archive: tarfile.TarFile, packed: int) -> tarfile.TarInfo:
    for entry in _iterate(archive):
        if _is_ignored(entry.name, entry.isdir()):
            continue
        _check_entry(name, entry.name, is_special=not entry.isreg() or entry.issparse())
        check_growth(name, entry.size, packed)
        return entry
    raise _members_error(name, [])


def _iterate(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while entry := archive.next():
        yield entry
        archive.members.clear()  # type: ignore[attr-defined]  # or a tar of many entries fills the memory


def _is_ignored(member: str, is_folder: bool) -> bool:
    """Whether a member does not count: folders, and what is hidden in a folder too, such as `__MACOSX/._log.csv`."""
    return is_folder or any(part[:1] == "_" or (part[:1] == "." and part not in (".", "..")) for part in _split(member))


def _split(member: str) -> list[str]:
    return [part for part in member.replace("\\", "/").split("/") if part]


def _check_entry(name: str, member: str, *, is_special: bool) -> None:
    reason = None
    if is_special:
        reason = "is a link, a device or a sparse file"
    elif member.startswith(("/", "\\")) or member[1:2] == ":" or ".." in _split(member):
        reason = "has an absolute path, or one that leads out of the archive"
    if reason:
        raise DataError(
            f"{name}: {member!r} {reason}, as in an archive made to overwrite other files; if you trust it, make the "
            "archive anew from the plain file",
            code="events.archive-entry",
            path=name,
            member=member,
            reason=reason,
        )
    if {suffix.lower() for suffix in PurePosixPath(member).suffixes[-2:]} & {*ARCHIVES, ".7z", ".rar"}:
        raise DataError(
            f"{name}: {member!r} is an archive itself; unpack {name}",
            code="events.archive-nested",
            path=name,
            member=member,
        )


def _members_error(name: str, members: list[str]) -> DataError:
    if not members:
        text = f"{name} holds no file (names that begin with . or _ do not count); make the archive anew"
    else:
        more = f" and {len(members) - _LISTED:,} more" if len(members) > _LISTED else ""
        text = (
            f"{name} holds several files: {', '.join(map(repr, members[:_LISTED]))}{more}; allowed is one. Unpack it, "
            "and name the folder"
        )
    return DataError(text, code="events.archive-members", path=name, members=members[:_LISTED], count=len(members))
