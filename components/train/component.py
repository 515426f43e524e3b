"""Step three: a dataset to a fitted model that is ready to be judged."""

from kfp import dsl

from ..image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def train(
    recommender: dict,
    dataset: str,
    store: str,
    registry: str = "",
    run: str = "",
    created: str = "",
    image: str = "",
) -> str:
    """Find the model's settings where the spec says so, and fit it; goes on where it was; returns its address."""
    from endcap.spec import Recommender
    from endcap.store import open_store
    from endcap.training import describe, train
    from endcap_components.step import step

    with step("train", store, run=run, created=created, image=image) as current:
        opened = open_store(store)
        spec = Recommender.model_validate(recommender)
        trained = train(spec, dataset, opened, registry or None, progress=current.progress)
        return current.done(trained, describe(opened.manifest(trained)["facts"]))
