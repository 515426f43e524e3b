"""The features pipeline: a shop's data to a dataset version, by itself."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from endcap.spec.load import Loaded, resolved
from endcap.steps import PIPELINES
from endcap_components.image import IMAGE
from endcap_pipelines.defaults import STORE
from endcap_pipelines.package import configure_workflow
from endcap_pipelines.task_chain import TaskChain


def build(loaded: Loaded, *, here: bool = False, run_deadline: bool = False) -> GraphComponent:
    """The pipeline with the spec's steps and settings, and the shop's document as default. here: for this machine.
    run_deadline: see `package`.
    """
    documents = resolved(loaded)
    settings = loaded.recommender.pipeline

    @dsl.pipeline(
        name="endcap-features",
        description=PIPELINES["features"],
        pipeline_config=configure_workflow(settings, run_deadline),
    )
    def features(
        shop: dict = documents["shop"],
        store: str = STORE,
        logical_date: str = "",
        trigger: str = "",
        image: str = settings.image or IMAGE,
    ):
        """Parameters as in the training pipeline."""
        arguments = {"shop": shop, "store": store, "logical_date": logical_date, "trigger": trigger}
        chain = TaskChain("features", settings, image, here=here, arguments=arguments)
        with chain.reported():
            chain.add("ingest")
            chain.add("features")

    return features
