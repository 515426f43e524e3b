"""Step one: source files to an immutable snapshot of events."""

from kfp import dsl

from ..image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def ingest(shop: dict, store: str, run: str = "", created: str = "", image: str = "") -> str:
    """Check a shop's events, items and customers, set bad rows aside, and write a snapshot; returns its address."""
    from endcap.events import ingest
    from endcap.spec import Shop
    from endcap.store import open_store
    from endcap_components.step import step

    with step("ingest", store, run=run, created=created, image=image) as current:
        opened = open_store(store)
        snapshot = ingest(Shop.model_validate(shop), opened, progress=current.progress)
        facts = opened.manifest(snapshot)["facts"]
        bad = sum(count for reasons in facts["bad"].values() for count in reasons.values())
        return current.done(snapshot, f"{facts['events']:,} events, {bad:,} bad rows set aside")
