"""The recommend pipeline: every customer's list by the versions that serve, independent of training."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from endcap.spec.load import Loaded, resolved
from endcap.steps import PIPELINES
from endcap_components.image import IMAGE
from endcap_pipelines.defaults import REGISTRY, STORE
from endcap_pipelines.package import configure_workflow
from endcap_pipelines.task_chain import TaskChain


def build(loaded: Loaded, *, here: bool = False, run_deadline: bool = False) -> GraphComponent:
    """The pipeline with the spec's steps and settings, and its documents as defaults. here: for this machine.
    run_deadline: see `package`.
    """
    documents = resolved(loaded)
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
        """Parameters as in the training pipeline, and: online: the online store's address, `none` for no publication;
        empty: the environment's ENDCAP_ONLINE. version: this registered version alone; empty: the champion, and what
        else serves. customers: the address of a file that names them; empty: all.
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
