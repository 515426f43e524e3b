"""The recommend pipeline: every customer's list by the versions that serve, independent of training."""

from kfp import dsl
from kfp.dsl.graph_component import GraphComponent

from endcap.spec.load import Loaded, resolved
from endcap_components.features.component import features as features_step
from endcap_components.image import IMAGE
from endcap_components.ingest.component import ingest as ingest_step
from endcap_components.recommend.component import recommend as recommend_step

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
        name="endcap-recommend",
        description="Every customer's list by the versions that serve, with the shop's rules applied",
        pipeline_config=config,
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
        image: str = settings.image or IMAGE,
    ):
        """Parameters as in the training pipeline, and: online: the online store's address, `none` for no publication;
        empty: the environment's ENDCAP_ONLINE. version: this registered version alone; empty: the champion, and what
        else serves. customers: the address of a file that names them; empty: all.
        """
        given = {"store": store, "registry": registry, "recommender": recommender, "shop": shop}
        chain = Chain("recommend", settings, image, here=here, given=given)
        with chain.reported():
            ingest = chain.step("ingest", ingest_step, shop=shop, store=store)
            snapshot = ingest.output
            chain.made("ingest", ingest, snapshot=snapshot)

            dates = {"logical_date": logical_date}
            features = chain.step("features", features_step, shop=shop, snapshot=snapshot, store=store, **dates)
            dataset = features.output
            chain.made("features", features, dataset=dataset)

            stored = {"recommender": recommender, "shop": shop, "store": store, "registry": registry}
            asked = {"online": online, "version": version, "customers": customers}
            lists = chain.step("recommend", recommend_step, **stored, dataset=dataset, **asked)
            chain.made("recommend", lists, recommendations=lists.output)

    return recommend
