"""A KServe model that does nothing: ``python -m tests.bench._trivial PORT NAME BYTES``

It reads each body, as KServe does, and answers the same text of so many bytes every time: what is left is the server.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import kserve


class Trivial(kserve.Model):
    def __init__(self, name: str, size: int) -> None:
        super().__init__(name)
        self.ready = True
        self.answer = {"predictions": ["x" * size]}

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        return self.answer


if __name__ == "__main__":
    server = kserve.ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, enable_latency_logging=False)
    for name in ("uvicorn.access", "kserve.trace"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = False
    server.start([Trivial(sys.argv[2], int(sys.argv[3]))])
