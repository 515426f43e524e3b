"""Step seven: a registered version to the state that serving should have."""

from kfp import dsl

from ..image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def deploy(
    recommender: dict,
    version: str,
    store: str,
    registry: str = "",
    run: str = "",
    created: str = "",
    image: str = "",
    namespace: str = "",
) -> str:
    """Give the champion all traffic, or a challenger the canary's share; returns one line on the state."""
    from endcap.deploy import deploy, describe
    from endcap.spec import Recommender
    from endcap.store import open_store
    from endcap_components.step import step

    with step("deploy", store, run=run, created=created, image=image) as current:
        state = deploy(Recommender.model_validate(recommender), version, open_store(store), registry or None)
        return current.done(describe(state, version))
