"""Step seven: a registered version to the state that serving should have."""

from kfp import dsl

from endcap_components.image import IMAGE


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
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("deploy", store, run=run, created=created, image=image) as reporter:
        project = Project.of(store, recommender=recommender, registry=registry, progress=reporter.progress)
        deployed = project.deploy(version, namespace=namespace)
        if deployed.outcome:
            print(deployed.outcome, flush=True)
        return reporter.done(deployed.summary)
