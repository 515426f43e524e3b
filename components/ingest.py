"""Step one makes an immutable snapshot of events from source files."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def ingest(
    shop: dict,
    store: str,
    logical_date: str = "",
    trigger: str = "",
    tables: dict = {},  # noqa: B006 (KFP's way to say a default)
    run: str = "",
    created: str = "",
    image: str = "",
) -> str:
    """Check a shop's events, items and customers, set bad rows aside, and write a snapshot; returns its address.

    logical_date: of a warehouse's table, only the days are read that a dataset of this date needs.
    trigger: who started the run, how and why, as a JSON object or plain text. tables: addresses of what steps of SQL
    made, by the steps' names.
    """
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("ingest", store, run=run, created=created, image=image, trigger=trigger) as reporter:
        snapshot = Project.of(store, shop=shop, progress=reporter.progress).ingest(tables=tables, until=logical_date)
        return reporter.done(snapshot.address, snapshot.summary)
