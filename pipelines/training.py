"""The training pipeline: from a shop's event log to a registered model behind a canary split."""

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
        name="endcap-training",
        description=PIPELINES["training"],
        pipeline_config=configure_workflow(settings, run_deadline),
    )
    def training(
        recommender: dict = documents["recommender"],
        shop: dict = documents["shop"],
        store: str = STORE,
        registry: str = REGISTRY,
        logical_date: str = "",
        namespace: str = loaded.recommender.serving.kubernetes.namespace,
        trigger: str = "",
        image: str = settings.image or IMAGE,
    ):
        """recommender, shop: the resolved specs (`endcap spec show --json`). store: the address of the store for
        artifacts. registry: MLflow's address; empty: ENDCAP_REGISTRY, else a database in the store. logical_date: an
        ISO date; only events before it count; empty: all events. namespace: the namespace that serves the model; empty:
        the run only writes the desired state. trigger: who started the run, how and why, for the run's record. image:
        the image of every step that names no other.
        """
        arguments = {
            "recommender": recommender,
            "shop": shop,
            "store": store,
            "registry": registry,
            "logical_date": logical_date,
            "trigger": trigger,
            "namespace": namespace,
        }
        chain = TaskChain("training", settings, image, here=here, arguments=arguments)
        with chain.reported():
            chain.add("ingest")
            chain.add("features")
            chain.add("train")
            evaluate = chain.add("evaluate")
            # The condition compares strings: KFP's conditions on numbers are silently false if types differ.
            with dsl.If(evaluate.outputs["Output"] == "passed", name="gate-passed"):
                chain.add("refit")
                chain.add("register")
                chain.add("deploy")

    return training
