"""The features pipeline: a shop's data to a dataset version, by itself."""

from kfp import dsl

from endcap_components.features.component import features as features_step
from endcap_components.image import IMAGE
from endcap_components.ingest.component import ingest as ingest_step

from .tasks import plain


@dsl.pipeline(name="endcap-features", description="A shop's events, items and customers to a dataset version")
def features(shop: dict, store: str, logical_date: str = "", image: str = IMAGE) -> str:
    """Parameters as in the training pipeline; returns the dataset's address."""
    snapshot = plain(ingest_step(shop=shop, store=store), "Ingest", image)
    dataset = plain(
        features_step(shop=shop, snapshot=snapshot.output, store=store, logical_date=logical_date), "Features", image
    )
    return dataset.output
