"""The features pipeline makes a dataset from a shop's data, and nothing else."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from endcap.spec.load import Loaded, dump_specs
from endcap.steps import PIPELINES
from endcap_components.image import IMAGE
from endcap_pipelines.defaults import STORE
from endcap_pipelines.package import configure_workflow
from endcap_pipelines.task_chain import TaskChain


def build(loaded: Loaded, *, here: bool = False, run_deadline: bool = False) -> GraphComponent:
    """Build the pipeline with the spec's steps and settings. The shop's document is its parameter's default.

    Parameters
    ----------
    loaded
        The spec.
    here
        Build it for this machine rather than for a cluster.
    run_deadline
        Give `pipeline.deadline` to the workflow too.

    Returns
    -------
    GraphComponent
        The pipeline, which KFP compiles or runs.
    """
    documents = dump_specs(loaded)
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
