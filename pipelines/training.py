"""The training pipeline: from a shop's event log to a registered model behind a canary split."""

from kfp import dsl

from endcap_components.deploy.component import deploy as deploy_step
from endcap_components.evaluate.component import evaluate as evaluate_step
from endcap_components.features.component import features as features_step
from endcap_components.image import IMAGE
from endcap_components.ingest.component import ingest as ingest_step
from endcap_components.refit.component import refit as refit_step
from endcap_components.register.component import register as register_step
from endcap_components.train.component import train as train_step

from .tasks import plain


@dsl.pipeline(name="endcap-training", description="An event log to a judged, registered and deployed ranking model")
def training(
    recommender: dict,
    shop: dict,
    store: str,
    registry: str = "",
    logical_date: str = "",
    run: str = "",
    image: str = IMAGE,
) -> None:
    """recommender, shop: the resolved specs (`endcap spec show --json`). store: where artifacts lie. registry: MLflow's
    address; empty: a data base in the store. logical_date: ISO; only events before it count; empty: all there are.
    run: a name kept as lineage. image: the image of every step.
    """
    snapshot = plain(ingest_step(shop=shop, store=store), "Ingest", image)
    dataset = plain(
        features_step(shop=shop, snapshot=snapshot.output, store=store, logical_date=logical_date), "Features", image
    )
    trained = plain(train_step(recommender=recommender, dataset=dataset.output, store=store), "Train", image)
    judged = plain(
        evaluate_step(
            recommender=recommender, dataset=dataset.output, trained=trained.output, store=store, registry=registry
        ),
        "Evaluate and gate",
        image,
    )
    # A string decides: KFP's conditions on numbers are silently false where types differ.
    with dsl.If(judged.outputs["Output"] == "passed", name="gate-passed"):
        package = plain(
            refit_step(
                recommender=recommender,
                dataset=dataset.output,
                trained=trained.output,
                verdict=judged.outputs["verdict"],
                store=store,
            ),
            "Refit on all data",
            image,
        )
        version = plain(
            register_step(
                recommender=recommender,
                package=package.output,
                verdict=judged.outputs["verdict"],
                store=store,
                registry=registry,
                run=run,
            ),
            "Register",
            image,
        )
        plain(
            deploy_step(recommender=recommender, version=version.output, store=store, registry=registry),
            "Deploy",
            image,
        )
