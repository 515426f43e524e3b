"""Step two makes a dataset from a snapshot. The shop's recommenders share it."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def features(
    shop: dict, snapshot: str, store: str, logical_date: str = "", run: str = "", created: str = "", image: str = ""
) -> str:
    """Make sessions, the item table and event features from the window before `logical_date`; returns the address.

    If ENDCAP_ONLINE names an online store, the step publishes items and customers there under the dataset's version.
    """
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("features", store, run=run, created=created, image=image) as reporter:
        project = Project.of(store, shop=shop, progress=reporter.progress)
        dataset = project.features(snapshot, until=logical_date)
        return reporter.done(dataset.address, dataset.summary)
