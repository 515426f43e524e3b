"""The run's last word, whatever happened: printed, and kept in the store for those who wait for it."""

from kfp import dsl

from ..image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def report(status: dsl.PipelineTaskFinalStatus, store: str, steps: list, run: str = ""):
    """Write the document `runs/<run>`: how the run ended, which step failed and why, what each step gave."""
    from endcap.store import open_store
    from endcap_components.runs import run_name, write_run

    document = write_run(open_store(store), run_name(run), status.state, steps, status.error_message or "")
    print(f"run {document['run']} {document['state']}", flush=True)
    if document["state"] == "failed":
        print(f"step {document['step'] or '(unknown)'} failed: {document['cause']}", flush=True)
