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
    """Give the champion all traffic, or a challenger the canary's share; returns one line on the state.

    namespace: of the cluster that serves; empty: only the desired state is written, for a server that follows it.
    """
    from endcap.deploy import deploy, describe, read_state
    from endcap.spec import Recommender
    from endcap.store import open_store
    from endcap_components.step import step

    with step("deploy", store, run=run, created=created, image=image) as current:
        spec, opened = Recommender.model_validate(recommender), open_store(store)
        state = deploy(spec, version, opened, registry or None)
        served = [] if state is None else [one.version for one in (state.stable, state.canary) if one is not None]
        if namespace and version in served:
            from endcap.cluster import connect
            from endcap.deploy.kubernetes import carry_out

            outcome = carry_out(
                spec, lambda: read_state(spec.name, opened), connect(), namespace, progress=current.progress
            )
            print(outcome, flush=True)
        return current.done(describe(state, version))
