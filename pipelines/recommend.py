"""The recommend pipeline makes every customer's list by the versions that serve, independently of training."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from endcap.spec.load import Loaded, dump_specs
from endcap.steps import PIPELINES
from endcap_components.image import IMAGE
from endcap_pipelines.defaults import REGISTRY, STORE
from endcap_pipelines.package import configure_workflow
from endcap_pipelines.task_chain import TaskChain


def build(loaded: Loaded, *, here: bool = False, run_deadline: bool = False) -> GraphComponent:
    """Build the pipeline with the spec's steps and settings. The spec's documents are its parameters' defaults.

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
        name="endcap-recommend",
        description=PIPELINES["recommend"],
        pipeline_config=configure_workflow(settings, run_deadline),
    )
    def recommend(
        recommender: dict = documents["recommender"],
        shop: dict = documents["shop"],
        store: str = STORE,
        registry: str = REGISTRY,
        logical_date: str = "",
        online: str = "",
        version: str = "",
        customers: str = "",
        trigger: str = "",
        image: str = settings.image or IMAGE,
    ):
        """The parameters of the training pipeline, and three more. online: the online store's address; `none`: publish
        nothing; empty: ENDCAP_ONLINE. version: the only registered version to use; empty: the champion and the other
        versions that serve. customers: the address of a file that lists customers; empty: all customers.
        """
        arguments = {
            "recommender": recommender,
            "shop": shop,
            "store": store,
            "registry": registry,
            "logical_date": logical_date,
            "trigger": trigger,
            "online": online,
            "version": version,
            "customers": customers,
        }
        chain = TaskChain("recommend", settings, image, here=here, arguments=arguments)
        with chain.reported():
            chain.add("ingest")
            chain.add("features")
            chain.add("recommend")

    return recommend
