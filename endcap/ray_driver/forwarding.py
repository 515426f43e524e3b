"""Forwards events of workers on other machines to the driver, by a queue of Ray. Only processes with Ray import it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ray.util.queue import Empty, Queue

from endcap.ray_driver.jobs import Emit

_LOOK = 0.5
"""Seconds that one look into the queue waits."""


@contextlib.contextmanager
def forward(emit: Emit) -> Iterator[Queue]:
    """Yield a queue that workers write to, and emit its content, completely by the end of the block."""
    queue, over = Queue(actor_options={"num_cpus": 0}), threading.Event()

    def hand_on() -> None:
        while True:
            is_last = over.is_set()
            with contextlib.suppress(Empty):
                while True:
                    emit(queue.get(block=not is_last, timeout=_LOOK))
            if is_last:
                return

    thread = threading.Thread(target=hand_on, daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        over.set()
        thread.join()
        queue.shutdown(force=True)
