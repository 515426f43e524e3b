"""What every task of every pipeline is given."""

from kfp.dsl import PipelineTask


def plain(task: PipelineTask, display_name: str, image: str) -> PipelineTask:
    """Name a task, set its image, and switch KFP's own cache off: outputs are reused by content, see `endcap.store`."""
    return task.set_display_name(display_name).set_container_image(image).set_caching_options(False)
