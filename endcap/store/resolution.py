"""Where an address leads in a store that was moved, copied, restored under another name or mounted elsewhere.

An artifact is known by its kind and key; its address says besides where the store lay when somebody wrote it down.
Manifests never change, so addresses of former places stay for ever. Two stores may hold different bytes under one key,
since training need not give the same bytes twice. So what an address of elsewhere is taken for depends on who says it:

- A document or a manifest of this store moved here together with the artifacts that it names: `Resolver.translate`.
- Anybody else has to mean the same artifact, by its checksums or by where it was made: `Resolver.find_path`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from endcap.errors import IntegrityError, NotFoundError
from endcap.store.artifact_files import digest_manifest
from endcap.store.base import Json, get_content_key, split_artifact_address
from endcap.store.documents import open_document

PLACES = "places"
"""The document that lists where the store has lain, each place with the time since when it was written there."""
ADDRESS_SCHEMES = ("file://", "s3://")
T = TypeVar("T")
PlaceEntries = list[Json]


class ArtifactLookup(Protocol):
    """What a resolver asks its store. A path is ``<kind>/<key>``, below the store's root."""

    root: str

    def find_path_here(self, address: str) -> str | None:
        """Return the path of an address in this store, by any spelling of the store's root.

        None if it is of another place.
        """

    def read_stored_manifest(self, path: str) -> Json | None:
        """Return the manifest of an artifact of this store as it was written; None if there is no such artifact."""

    def read_manifest_at(self, address: str) -> Json | None:
        """Return the manifest of another store's artifact as it was written; None if it cannot be read now."""

    def read_places(self) -> PlaceEntries:
        """Return the entries of `PLACES`, oldest first; an empty list if there is no such document."""

    def change_places(self, change: Callable[[PlaceEntries], PlaceEntries]) -> None:
        """Replace the entries of `PLACES` by what a function returns for them."""


class Resolver:
    """Turns addresses into paths of a store.

    Parameters
    ----------
    lookup
        The store.
    """

    def __init__(self, lookup: ArtifactLookup) -> None:
        self._lookup = lookup
        self._proven_paths: dict[str, str] = {}
        """Addresses of elsewhere, and the paths that they were proven to name."""
        self._own_paths: dict[str, str] = {}
        """The same of addresses in this store's own documents."""
        self._former: list[str] | None = None
        self._noted = False

    def find_path(self, address: str, digest: str = "") -> str:
        """Find the path of the artifact at an address.

        Parameters
        ----------
        address
            An address in this store, or kind and key alone: the artifact need not exist. An address of another place
            must name an artifact that this store has: it was made there, this store held it when it lay there, or it
            has the same files. If the other store can be read, its checksums decide.
        digest
            The digest of the artifact's files (`digest_manifest`), if it is known. Then it decides.

        Returns
        -------
        str
            The path, ``<kind>/<key>``.

        Raises
        ------
        NotFoundError
            Nothing shows that this store has the artifact.
        IntegrityError
            This store has another artifact of the same kind and key.
        """
        address = normalise_address(address)
        here = self._lookup.find_path_here(address)
        if here is None and _is_bare(address):
            here = get_content_key(address)
        if here is not None:
            return here
        return ("" if digest else self._proven_paths.get(address, "")) or self._prove_path(address, digest)

    def lies_at(self, address: str) -> bool:
        """Tell whether an artifact of this store can be read at an address: here, or elsewhere with equal files."""
        address = normalise_address(address)
        if (path := self._lookup.find_path_here(address)) is not None:
            return self._lookup.read_stored_manifest(path) is not None
        path, other_manifest = _find_path(address), self._lookup.read_manifest_at(address)
        own_manifest = None if path is None or other_manifest is None else self._lookup.read_stored_manifest(path)
        if path is None or own_manifest is None or other_manifest is None:
            return False
        return digest_manifest(
            open_document("manifest", own_manifest, f"{self._lookup.root}/{path}")
        ) == digest_manifest(other_manifest)

    def translate(self, value: T) -> T:
        """Replace former addresses of this store in a value by the present ones."""
        if isinstance(value, dict):
            return {key: self.translate(item) for key, item in value.items()}  # type: ignore[return-value]
        if isinstance(value, list):
            return [self.translate(item) for item in value]  # type: ignore[return-value]
        return self._translate_address(value) if isinstance(value, str) and value.startswith(ADDRESS_SCHEMES) else value  # type: ignore[return-value]

    def note_place(self) -> None:
        """Record that this store is written at its present place. Call it before addresses of this place are stored."""
        if self._noted:
            return
        entries, root = self._lookup.read_places(), self._lookup.root
        if not entries or entries[-1]["root"] != root:
            entry = {"root": root, "since": datetime.now(UTC).isoformat(timespec="microseconds")}
            # Each place once: two machines may mount one store at two paths, and both write.
            self._lookup.change_places(
                lambda now: [*(entry_then for entry_then in now if entry_then["root"] != root), entry]
            )
            self._former = None
        self._noted = True

    def _translate_address(self, address: str) -> str:
        root = self._lookup.root
        if address.startswith(f"{root}/"):
            return address
        if self._former is None:
            roots = (str(entry["root"]) for entry in self._lookup.read_places())
            self._former = sorted((root_then for root_then in roots if root_then != root), key=len, reverse=True)
        for former in self._former:
            if address.startswith(f"{former}/"):
                return f"{root}/{address.removeprefix(f'{former}/')}"
        # A place that no release noted which knows of places: what is named has to be here.
        if address not in self._own_paths:
            path = _find_path(address)
            if path is None or self._lookup.read_stored_manifest(path) is None:
                return address
            self._own_paths[address] = path
        return f"{root}/{self._own_paths[address]}"

    def _prove_path(self, address: str, digest: str) -> str:
        path = _find_path(address)
        manifest = None if path is None else self._lookup.read_stored_manifest(path)
        if path is None or manifest is None:
            raise _make_elsewhere_error(address, self._lookup.root)
        manifest = open_document("manifest", manifest, f"{self._lookup.root}/{path}")
        other_manifest = None if digest else self._lookup.read_manifest_at(address)
        expected = digest or (digest_manifest(other_manifest) if other_manifest else "")
        if expected and expected != digest_manifest(manifest):
            here = f"{self._lookup.root}/{path}"
            raise IntegrityError(
                f"{address} is another artifact than {here}: both have the same inputs, and their files differ. "
                "Name the store that is meant by --store, or the artifact by its address here",
                code="store.another-artifact",
                address=address,
                here=here,
                store=self._lookup.root,
            )
        if (
            not expected
            and manifest["address"] not in _list_spellings(address)
            and not self._was_held_at(address, manifest)
        ):
            raise _make_elsewhere_error(address, self._lookup.root, path)
        if not digest:
            self._proven_paths[address] = path
        return path

    def _was_held_at(self, address: str, manifest: Json) -> bool:
        """Tell whether this store held an artifact while it lay at an address: it is older than the next move."""
        entries, created = self._lookup.read_places(), datetime.fromisoformat(manifest["created"])
        roots = {get_root(name) for name in _list_spellings(address)}
        return any(
            entry["root"] in roots and created < departure
            for entry, departure in zip(entries, _list_departures(entries), strict=True)
        )


class RelocatableStore:
    """What all stores do in the same way by their resolver; see `Store` and `ArtifactLookup`."""

    root: str
    _resolver: Resolver

    def resolve(self, address: str, *, digest: str = "") -> str:
        return f"{self.root}/{self._resolver.find_path(address, digest)}"

    def translate(self, value: T) -> T:
        return self._resolver.translate(value)

    def lies_at(self, address: str) -> bool:
        return self._resolver.lies_at(address)

    def update_document(self, name: str, change: Callable[[Json | None], Json], *, repair: bool = False) -> Json:
        self._resolver.note_place()

        def changed(before: Json | None) -> Json:
            translated = self.translate(before)
            after = change(translated)
            # What is left as it was is not written anew for the sake of its addresses either.
            return before if before is not None and after is translated else after

        return self.translate(self._update(name, changed, repair=repair))

    def change_places(self, change: Callable[[PlaceEntries], PlaceEntries]) -> None:
        self._update(PLACES, lambda before: {PLACES: change((before or {}).get(PLACES, []))})

    def _update(self, name: str, change: Callable[[Json | None], Json], *, repair: bool = False) -> Json:
        """`update_document`, of a document as it was written."""
        raise NotImplementedError


def read_unless_damaged(read: Callable[[], Json | None], *, repair: bool) -> Json | None:
    """Call a function that reads; return None for a damaged document, if it is to be replaced."""
    try:
        return read()
    except IntegrityError:
        if not repair:
            raise
        return None


def normalise_address(address: str) -> str:
    """An address as it is compared: a path as a ``file://`` address, without a slash at its end."""
    address = address.rstrip("/") or address
    return f"file://{address}" if address.startswith("/") else address


def get_root(address: str) -> str:
    """The root of the store in an artifact's address."""
    return address.removesuffix(f"/{get_content_key(address)}")


def _find_path(address: str) -> str | None:
    """The path in its store of what an address names; None where it names no artifact."""
    parts = split_artifact_address(address)
    return None if parts is None else "/".join(parts)


def _is_bare(address: str) -> bool:
    return "://" not in address and address.count("/") == 2 and _find_path(f"/{address}") is not None


def _list_spellings(address: str) -> set[str]:
    """An address, and the same without the links in its path."""
    if not address.startswith("file://"):
        return {address}
    return {address, f"file://{Path(address.removeprefix('file://')).resolve()}"}


def _list_departures(entries: PlaceEntries) -> Iterator[datetime]:
    """Until when the store lay at each place."""
    for entry in entries[1:]:
        yield datetime.fromisoformat(entry["since"])
    if entries:
        yield datetime.max.replace(tzinfo=UTC)


def _make_elsewhere_error(address: str, root: str, path: str = "") -> NotFoundError:
    also = (
        f"; {path} is in this store, but nothing shows that it is the same artifact. If it is, name it as {path}"
        if path
        else ""
    )
    return NotFoundError(
        f"{address} does not lie in this store ({root}){also}",
        code="store.elsewhere",
        address=address,
        store=root,
        **({"here": path} if path else {}),
    )
