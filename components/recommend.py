"""A pipeline of its own: the lists of the versions that serve, for every customer, written and published."""

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
    """Make the lists of the champion and of what else serves, and publish them; returns the first version's address.

    online: the online store's address, `none` for no publication; empty: as the environment says. version: this one
    alone. customers: a file that names them; empty: all of the dataset, or those that `batch.active_within` leaves.
    """
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("recommend", store, run=run, created=created, image=image) as reporter:
        project = Project.of(
            store, recommender=recommender, shop=shop, registry=registry, online=online, progress=reporter.progress
        )
        lists = project.recommend(dataset, version=version, customers=customers)
        return reporter.done(lists.address, lists.summary)
