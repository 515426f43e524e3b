"""Which files a source means, what they are, and the errors of reading them."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from endcap.errors import DataError
from endcap.safe_reading import IrregularFileError, check_regular, open_regular
from endcap.sources.archives import ARCHIVES, find_member
from endcap.sources.file_kinds import read_kind
from endcap.sources.local_files import LocalFile
from endcap.sources.recognition import CHOSEN_ONLY, Recognition, check_kinds, make_unknown_error, recognize
from endcap.sources.s3_sources import SCHEME, fetch_listed, find_objects
from endcap.sources.source_index import FileContent, ListedFile, SourceIndex
from endcap.spec.source import SourceSpec


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes
    ----------
    listed
        The file as it lies, as it was at the search.
    format, compression
        How it is read.
    content
        What is known of its bytes. A digest that an earlier run computed is compared when the file is read.
    """

    listed: ListedFile
    format: str
    compression: str | None
    content: FileContent

    has_places = True
    is_kept_alone = False

    @property
    def name(self) -> str:
        """Its name in errors and facts: its path, or its address in a bucket."""
        return self.listed.name

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.listed.bytes

    @property
    def path(self) -> Path:
        """The local file that holds its bytes. An object of a bucket is fetched for it, unless it was."""
        return self.listed.fetch()

    def digest(self) -> str:
        """Return the SHA-256 of the stored bytes, in hex. Raises DataError if the file cannot be read."""
        return self.content.sha256 or self._hash()

    def check_unchanged(self) -> None:
        """Raise DataError if the file changed since the search, or does not have the digest that was known."""
        with convert_read_errors(self.name):
            is_unchanged = self.listed.is_unchanged()
        if not is_unchanged or (self.content.sha256 and self._hash() != self.content.sha256):
            raise DataError(
                f"{self.name} changed while it was read; run again when nothing writes to it",
                code="events.file-changed",
                path=self.name,
            )

    def facts(self) -> dict[str, Any]:
        """Return what a snapshot says of the file: `path` and `bytes`."""
        return {"path": self.name, "bytes": self.bytes}

    def _hash(self) -> str:
        with convert_read_errors(self.name), open_regular(self.path) as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source in reading order, which is by name, and the names of skipped files of its folder."""

    files: list[SourceFile]
    skipped: list[str]


@dataclass(frozen=True)
class FileListing:
    """The files of a source as they lie.

    Attributes
    ----------
    files
        Those whose names tell a format, in reading order.
    kinds
        What each is by its name.
    skipped
        The names of the others.
    is_explicit
        Whether the source names the files, or matches them by a glob.
    """

    files: list[ListedFile]
    kinds: dict[str, Recognition]
    skipped: list[str]
    is_explicit: bool


def find_files(
    source: SourceSpec, progress: Callable[[str], None] = lambda line: None, index: SourceIndex | None = None
) -> SourceFiles:
    """Find the files of a source.

    Parameters
    ----------
    source
        Names a file, a folder or a glob, here or in a bucket.
    progress
        Takes a line when files of a bucket are copied to this machine.
    index
        What is known of files. Objects of which it knows nothing are copied to this machine now.

    Returns
    -------
    SourceFiles
        The files to read, and the skipped ones. A folder is searched with its subfolders. Names that begin with ``.``
        or ``_`` do not count. Files of unknown formats are skipped in a folder, and are an error in a glob.

    Raises
    ------
    DataError
        If no file exists, none has a known format, one cannot be read, or one is no regular file.
    """
    index = index or SourceIndex()
    listing = list_files(source)
    known = {listed.name: index.find(listed) for listed in listing.files}
    fetch_listed([listed for listed in listing.files if known[listed.name] is None], progress)
    opened = [(listed.name, _make_file(listed, known[listed.name], source, listing, index)) for listed in listing.files]
    files = [file for _, file in opened if file is not None]
    skipped = sorted([*listing.skipped, *(name for name, file in opened if file is None)])
    if not files:
        raise _make_none_error(source, skipped)
    return SourceFiles(files, skipped)


def list_files(source: SourceSpec) -> FileListing:
    """List the files of a source; none is opened or fetched.

    Raises
    ------
    DataError
        If no file exists, none has a name of a known format, or one is no regular file.
    """
    objects, is_explicit = find_objects(source.path) if source.path.startswith(SCHEME) else (None, False)
    paths: dict[str, Path] = {}
    if objects is None:
        expanded, is_explicit = _expand_path(source.path)
        paths = {str(path): path for path in expanded}
    names = [*paths, *(entry.name for entry in objects or ())]
    if not names:
        raise DataError(
            f"{source.path}: no file is there; name a file, a folder or a glob that matches files",
            code="events.file-not-found",
            path=source.path,
        )
    recognized = _recognize_all(names, source, is_explicit)
    skipped = [name for name in names if name not in recognized]
    if is_explicit or not recognized:
        check_kinds(skipped)
    if skipped and is_explicit:
        raise make_unknown_error(skipped[0], skipped[:1], f"{skipped[0]}: its suffix tells no format")
    if not recognized:
        raise _make_none_error(source, skipped)
    files: list[ListedFile] = [entry for entry in objects or () if entry.name in recognized]
    for name, path in paths.items():
        if name in recognized:
            with convert_read_errors(name):
                files.append(LocalFile.find(path))
    return FileListing(files, recognized, skipped, is_explicit)


def describe_file(listed: ListedFile, kind: Recognition) -> FileContent:
    """Read all that is to be known of a file before it is parsed.

    Parameters
    ----------
    listed
        The file.
    kind
        What it is by its name.

    Raises
    ------
    DataError
        If it cannot be read, or is an archive that cannot be read.
    """
    with convert_read_errors(listed.name), open_regular(listed.fetch()) as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        content = FileContent(read_kind(listed.fetch()) or "", sha256=digest)
        packing = kind.compression if kind.format is None and not content.kind else content.kind
        if packing is None or packing not in ARCHIVES.values() or kind.format == "excel" or not listed.bytes:
            return content
        return replace(content, member=find_member(listed.name, listed.fetch(), packing).name)


@contextlib.contextmanager
def convert_read_errors(name: str) -> Iterator[None]:
    """Convert errors of the system and of readers into a DataError that names this input file."""
    try:
        yield
    except IrregularFileError as error:
        raise DataError(
            f"{name} is {error.strerror}: reading it might never end. Name files, and take what is none out of the "
            "folder",
            code="events.not-a-file",
            path=name,
            reason=error.strerror,
        ) from None
    except FileNotFoundError:
        raise DataError(
            f"{name}: no such file; check the path (it is relative to the spec file)",
            code="events.file-not-found",
            path=name,
        ) from None
    except (EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, tarfile.TarError, pa.ArrowException) as error:
        raise _damage_error(name, str(error)) from error
    except OSError as error:
        if error.errno:
            reason = error.strerror or str(error)
            raise DataError(
                f"{name}: cannot be read: {reason}", code="events.cannot-read", path=name, reason=reason
            ) from error
        raise _damage_error(name, str(error)) from error


def _expand_path(address: str) -> tuple[list[Path], bool]:
    """Return the files of a path or file:// address, and whether it names them itself (a file or a glob, no folder)."""
    address = address.removeprefix("file://")
    place = Path(address)
    with convert_read_errors(address):
        if place.is_dir():
            return _list_folder(place), False
        if glob.has_magic(address) and not place.exists():
            matched = (Path(name) for name in glob.glob(address, recursive=True))  # noqa: PTH207 (absolute globs)
            return sorted(path for path in matched if path.exists() and not path.is_dir()), True
        check_regular(place)
        return [place], True


def _list_folder(folder: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise error

    paths = []
    for parent, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if name[0] not in "._"]
        paths += [Path(parent) / name for name in names if name[0] not in "._"]
    return sorted(paths)


def _recognize_all(names: Sequence[str], source: SourceSpec, is_explicit: bool) -> dict[str, Recognition]:
    """Recognize files by their names. Those of unknown formats are left out."""
    for meant in ({}, CHOSEN_ONLY):
        recognized = {name: kind for name in names if (kind := recognize(name, source, is_explicit, meant))}
        if recognized:
            return recognized
    return {}


def _make_file(
    listed: ListedFile, known: FileContent | None, source: SourceSpec, listing: FileListing, index: SourceIndex
) -> SourceFile | None:
    """Return a file as it is read. None: it is an archive in a folder, of a file of an unknown format."""
    name, kind = listed.name, listing.kinds[listed.name]
    with convert_read_errors(name):
        content = known or FileContent(read_kind(listed.fetch()) or "")
        detected = "" if kind.format == "excel" else content.kind  # workbooks are archives
        if detected in ARCHIVES.values():
            kind = Recognition(None, detected)
        elif detected and source.format is None:
            kind = Recognition(detected, None)
        format_, packing = kind
        if format_ is None and listed.bytes:
            if not content.member:
                content = replace(content, member=find_member(name, listed.fetch(), str(packing)).name)
            recognized = recognize(content.member, source, listing.is_explicit, CHOSEN_ONLY)
            if recognized is None and listing.is_explicit:
                check_kinds([content.member])
                text = f"{name}: the suffix of {content.member!r} in it tells no format"
                raise make_unknown_error(name, [content.member], text)
            if recognized is None:
                index.note(listed, content)
                return None
            format_ = recognized.format
    return SourceFile(listed, format_ or "csv", packing, content)


def _make_none_error(source: SourceSpec, names: Sequence[str]) -> DataError:
    names = list(names[:10])
    listed = ", ".join(PurePosixPath(name).name for name in names)
    return make_unknown_error(source.path, names, f"{source.path}: no file of a known format, only {listed}")


def _damage_error(name: str, reason: str) -> DataError:
    """Make the error for a damaged file from the words of a decompressor or parser, which have no error codes."""
    if any(words in reason for words in ("runcated", "end-of-stream", "unexpected end of data")):
        text = f"{name}: the file is cut short; copy it again"
        return DataError(text, code="events.file-cut-short", path=name)
    if "straddling" in reason:
        text = (
            f"{name}: a row is longer than 16 MiB: a quote is probably opened and never closed; where quotes are plain "
            "text, set the source's quoted to false"
        )
        return DataError(text, code="events.row-too-long", path=name, line=None, limit=16 << 20)
    text = f"{name}: the file is damaged or not what its suffix says ({reason.strip()})"
    return DataError(text, code="events.file-damaged", path=name, reason=reason.strip())
