"""Step two: a snapshot to a dataset version, shared by the shop's recommenders."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def features(
    shop: dict, snapshot: str, store: str, logical_date: str = "", run: str = "", created: str = "", image: str = ""
) -> str:
    """Sessions, filters, item table and event features of the window before `logical_date`; returns the address.

    Where ENDCAP_ONLINE names an online store, items and customers are published there under the dataset's version.
    """
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("features", store, run=run, created=created, image=image) as reporter:
        project = Project.of(store, shop=shop, progress=reporter.progress)
        dataset = project.features(snapshot, until=logical_date)
        return reporter.done(dataset.address, dataset.summary)
