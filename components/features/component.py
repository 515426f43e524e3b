"""Step two: a snapshot to a dataset version, shared by the shop's recommenders."""

from kfp import dsl

from ..image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def features(
    shop: dict, snapshot: str, store: str, logical_date: str = "", run: str = "", created: str = "", image: str = ""
) -> str:
    """Sessions, filters, item table and event features of the window before `logical_date`; returns the address.

    Where ENDCAP_ONLINE names an online store, items and customers are published there under the dataset's version.
    """
    from endcap.features import build
    from endcap.features.publishing import publish_where_asked
    from endcap.spec import Shop
    from endcap.spec.base import parse_date
    from endcap.store import open_store
    from endcap_components.step import step

    with step("features", store, run=run, created=created, image=image) as current:
        opened = open_store(store)
        until = parse_date(logical_date) if logical_date else None
        spec = Shop.model_validate(shop)
        dataset = build(spec, snapshot, opened, until=until, progress=current.progress)
        facts = opened.manifest(dataset)["facts"]
        made = f"{facts['sessions']:,} sessions, {facts['events']:,} events, {facts['items']:,} items"
        return current.done(dataset, made + publish_where_asked(spec, dataset, opened, current.progress))
