"""The features pipeline: a shop's data to a dataset version, by itself."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from endcap.spec.load import Loaded, resolved
from endcap_components.features.component import features as features_step
from endcap_components.image import IMAGE
from endcap_components.ingest.component import ingest as ingest_step

from .package import workflow
from .tasks import Chain
from .where import STORE


def build(loaded: Loaded, *, here: bool = False, run_deadline: bool = False) -> GraphComponent:
    """The pipeline with the spec's steps and settings, and the shop's document as default. here: for this machine.
    run_deadline: see `package`.
    """
    documents = resolved(loaded)
    settings = loaded.recommender.pipeline
    config = workflow(settings, run_deadline)

    @dsl.pipeline(
        name="endcap-features",
        description="A shop's events, items and customers to a dataset version",
        pipeline_config=config,
    )
    def features(
        shop: dict = documents["shop"],
        store: str = STORE,
        logical_date: str = "",
        image: str = settings.image or IMAGE,
    ):
        """Parameters as in the training pipeline."""
        chain = Chain("features", settings, image, here=here, given={"store": store, "shop": shop})
        with chain.reported():
            ingest = chain.step("ingest", ingest_step, shop=shop, store=store)
            snapshot = ingest.output
            chain.made("ingest", ingest, snapshot=snapshot)

            dates = {"logical_date": logical_date}
            dataset = chain.step("features", features_step, shop=shop, snapshot=snapshot, store=store, **dates)
            chain.made("features", dataset, dataset=dataset.output)

    return features
