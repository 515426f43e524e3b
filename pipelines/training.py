"""The training pipeline: from a shop's event log to a registered model behind a canary split."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from endcap.spec.load import Loaded, resolved
from endcap_components.deploy.component import deploy as deploy_step
from endcap_components.evaluate.component import evaluate as evaluate_step
from endcap_components.features.component import features as features_step
from endcap_components.image import IMAGE
from endcap_components.ingest.component import ingest as ingest_step
from endcap_components.refit.component import refit as refit_step
from endcap_components.register.component import register as register_step
from endcap_components.train.component import train as train_step

from .package import workflow
from .tasks import Chain
from .where import REGISTRY, STORE


def build(loaded: Loaded, *, here: bool = False, run_deadline: bool = False) -> GraphComponent:
    """The pipeline with the spec's steps and settings, and its documents as defaults. here: for this machine.
    run_deadline: see `package`.
    """
    documents = resolved(loaded)
    settings = loaded.recommender.pipeline
    config = workflow(settings, run_deadline)

    @dsl.pipeline(
        name="endcap-training",
        description="An event log to a judged, registered and deployed ranking model",
        pipeline_config=config,
    )
    def training(
        recommender: dict = documents["recommender"],
        shop: dict = documents["shop"],
        store: str = STORE,
        registry: str = REGISTRY,
        logical_date: str = "",
        namespace: str = loaded.recommender.serving.kubernetes.namespace,
        image: str = settings.image or IMAGE,
    ):
        """recommender, shop: the resolved specs (`endcap spec show --json`). store: where artifacts lie. registry:
        MLflow's address; empty: a data base in the store. logical_date: ISO; only events before it count; empty: all
        there are. namespace: where the model is served; empty: only the state that serving should have is written.
        image: the image of every step that names no other.
        """
        given = {"store": store, "registry": registry, "recommender": recommender, "shop": shop}
        chain = Chain("training", settings, image, here=here, given=given)
        with chain.reported():
            ingest = chain.step("ingest", ingest_step, shop=shop, store=store)
            snapshot = ingest.output
            chain.made("ingest", ingest, snapshot=snapshot)

            features = chain.step(
                "features", features_step, shop=shop, snapshot=snapshot, store=store, logical_date=logical_date
            )
            dataset = features.output
            chain.made("features", features, dataset=dataset)

            train = chain.step(
                "train", train_step, recommender=recommender, dataset=dataset, store=store, registry=registry
            )
            trained = train.output
            chain.made("train", train, trained=trained)

            judged = {"recommender": recommender, "dataset": dataset, "trained": trained, "store": store}
            evaluate = chain.step("evaluate", evaluate_step, **judged, registry=registry, shop=shop)
            verdict = evaluate.outputs["verdict"]
            chain.made("evaluate", evaluate, verdict=verdict)

            # A string decides: KFP's conditions on numbers are silently false where types differ.
            with dsl.If(evaluate.outputs["Output"] == "passed", name="gate-passed"):
                refit = chain.step("refit", refit_step, **judged, verdict=verdict)
                package = refit.output
                chain.made("refit", refit, package=package)

                if chain.has("register"):
                    stored = {"recommender": recommender, "store": store, "registry": registry}
                    register = chain.step("register", register_step, **stored, package=package, verdict=verdict)
                    version = register.output
                    chain.made("register", register, version=version)

                    if chain.has("deploy"):
                        deploy = chain.step("deploy", deploy_step, **stored, version=version, namespace=namespace)
                        chain.made("deploy", deploy)

    return training
