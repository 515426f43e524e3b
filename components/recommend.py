"""The last step of the recommend pipeline writes and publishes every customer's list by the versions that serve."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def recommend(
    recommender: dict,
    shop: dict,
    dataset: str,
    store: str,
    registry: str = "",
    online: str = "",
    version: str = "",
    customers: str = "",
    run: str = "",
    created: str = "",
    image: str = "",
) -> str:
    """Make and publish the lists of all versions that serve; returns the address of the first version's lists.

    online: the online store's address; `none`: publish nothing; empty: ENDCAP_ONLINE. version: use only this one.
    customers: a file that lists customers; empty: all customers of the dataset whom `batch.active_within` allows.
    """
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("recommend", store, run=run, created=created, image=image) as reporter:
        project = Project.of(
            store, recommender=recommender, shop=shop, registry=registry, online=online, progress=reporter.progress
        )
        lists = project.recommend(dataset, version=version, customers=customers)
        return reporter.done(lists.address, lists.summary)
