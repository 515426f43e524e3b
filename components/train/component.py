"""Step three: a dataset to a fitted model that is ready to be judged."""

from kfp import dsl

from ..image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def train(recommender: dict, dataset: str, store: str, run: str = "", created: str = "", image: str = "") -> str:
    """Fit the recommender's model on the training part; goes on from a checkpoint; returns the model's address."""
    from endcap.spec import Recommender
    from endcap.store import open_store
    from endcap.training import train
    from endcap_components.step import step

    with step("train", store, run=run, created=created, image=image) as current:
        opened = open_store(store)
        trained = train(Recommender.model_validate(recommender), dataset, opened, progress=current.progress)
        facts = opened.manifest(trained)["facts"]
        epochs = f", {facts['found']['epochs']} epochs" if "epochs" in facts["found"] else ""
        return current.done(trained, f"{facts['model']['name']}{epochs}, {facts['n_items']:,} items")
