"""Says why a worker of Ray was lost. It imports Ray only when it is called."""

from __future__ import annotations


def describe_loss(error: BaseException | str | None) -> str:
    """Say in one line why a worker was lost.

    Parameters
    ----------
    error
        Ray's error, or the text that Ray has of it.
    """
    from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError

    text = str(error or "")
    # Ray names memory as a possible cause of any death; these words are those of its own memory monitor.
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return "out of memory: Ray ended its process"
    if isinstance(error, RayActorError | WorkerCrashedError) or not text.strip():
        return "its process died"
    # The last line of a traceback says what it was.
    return [line.strip() for line in text.splitlines() if line.strip()][-1][:300]
