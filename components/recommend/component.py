"""A pipeline of its own: the lists of the versions that serve, for every customer, written and published."""

from kfp import dsl

from ..image import IMAGE


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
    alone. customers: a file that names them; empty: all of the dataset, or those that `batch.active` leaves.
    """
    from endcap.batch import PATIENCE, Wanted, describe, publish_lists, recommend
    from endcap.online import online_url, open_online
    from endcap.spec import Recommender, Shop
    from endcap.store import open_store
    from endcap_components.step import step

    with step("recommend", store, run=run, created=created, image=image) as current:
        opened, spec, of = open_store(store), Recommender.model_validate(recommender), Shop.model_validate(shop)
        wanted = Wanted(dataset=dataset, version=version or None, customers=customers or None)
        made = recommend(spec, of, opened, registry or None, wanted=wanted, progress=current.progress)
        address = online_url(online, opened.root)
        if address is None:
            print("no online store: the lists are not published", flush=True)
        else:
            with open_online(address, shop=of.name, timeout=PATIENCE) as published:
                publish_lists(spec, made, opened, published, progress=current.progress)
        return current.done(made[0].address, describe(made, published=address is not None))
