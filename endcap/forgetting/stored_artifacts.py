"""The artifacts of a shop that hold a customer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from endcap.errors import NotFoundError
from endcap.forgetting.scan import CustomerScan, is_model_file
from endcap.lineage import find_tombstone
from endcap.retention import KINDS, Inventory, StoredArtifact
from endcap.retention.inventory import Contents
from endcap.store import Store, get_content_key

TABLES = "tables"
OF_SHOP = ("parsed", "snapshots", "coded", "datasets", "descriptions", "tables")
"""Kinds whose owner is the shop. That of the others is a recommender."""
WITH_MODEL = ("trained", "fits", "recipes")
"""Kinds that hold the ids that a model knows in the model's own files alone. The others have a table of them."""
PARALLEL = 4
"""Artifacts that are read at once."""


@dataclass(frozen=True)
class HoldingArtifact:
    """An artifact that holds a customer.

    Attributes
    ----------
    artifact
        The artifact.
    needed_by
        Who needs it now, so that it cannot be removed yet; empty if nobody does.
    """

    artifact: StoredArtifact
    needed_by: str = ""


def list_shop_artifacts(store: Store, shop: str) -> list[StoredArtifact]:
    """List the artifacts of a shop and of its recommenders, each before those that it refers to.

    Raises
    ------
    IntegrityError
        If a manifest is damaged: whose it is is not known then.
    """
    artifacts = [*Inventory(store).list_artifacts().values(), *_list_tables(store, shop)]
    recommenders = find_recommenders(artifacts, shop)
    chosen = [
        artifact for artifact in artifacts if artifact.owner in ({shop} if artifact.kind in OF_SHOP else recommenders)
    ]
    order = [*KINDS, TABLES]
    return sorted(chosen, key=lambda artifact: order.index(artifact.kind))


def find_recommenders(artifacts: Iterable[StoredArtifact], shop: str) -> set[str]:
    """Find the recommenders that learn from a shop's data."""
    return {
        artifact.owner
        for artifact in artifacts
        if artifact.kind not in OF_SHOP and any(_is_data_of(reference, shop) for reference in artifact.references)
    }


def find_holding(artifacts: Sequence[StoredArtifact], scan: CustomerScan, store: Store) -> list[StoredArtifact]:
    """Find the artifacts that hold a customer, in their order. A snapshot has the rows of the units that it refers to.

    Parameters
    ----------
    artifacts
        Those to search.
    scan
        Whom to look for.
    store
        Their store.
    """
    with ThreadPoolExecutor(PARALLEL) as pool:
        held = list(pool.map(lambda artifact: _holds(artifact, scan, store), artifacts))
    holding = {artifact.address for artifact, is_held in zip(artifacts, held, strict=True) if is_held}
    holding |= {
        artifact.address
        for artifact in artifacts
        if artifact.kind == "snapshots" and not holding.isdisjoint(artifact.references)
    }
    return [artifact for artifact in artifacts if artifact.address in holding]


def _holds(artifact: StoredArtifact, scan: CustomerScan, store: Store) -> bool:
    if artifact.contents is None:
        # A removal was cut off, or somebody publishes it now.
        return find_tombstone(store, artifact.address) is not None
    try:
        manifest = store.manifest(artifact.address)
        if scan.is_in_json(manifest["facts"]):
            return True
        names: Mapping[str, object] = manifest["files"]
        if artifact.kind == TABLES:
            folder = store.fetch(artifact.address)
            return any(scan.is_in_columns(folder / name, None) for name in names if name.endswith(".parquet"))
        readable = [name for name in names if not is_model_file(name)]
        of_model = [name for name in names if is_model_file(name)] if artifact.kind in WITH_MODEL else []
        folder = store.fetch(artifact.address, names=[*readable, *of_model])
        return any(scan.is_in_file(folder / name) for name in readable) or any(
            scan.is_in_bytes(folder / name) for name in of_model
        )
    except NotFoundError:  # removed meanwhile
        return False


def _list_tables(store: Store, shop: str) -> list[StoredArtifact]:
    nothing = Contents("", (), frozenset())
    return [
        StoredArtifact(use.address, use.used, use.bytes, nothing if use.is_whole else None)
        for use in store.list_uses(f"{TABLES}/{shop}")
    ]


def _is_data_of(address: str, shop: str) -> bool:
    kind, owner, _ = get_content_key(address).split("/")
    return kind in OF_SHOP and owner == shop
