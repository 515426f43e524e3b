"""One predictor process: ``python -m endcap_serving.predictor --model_name NAME --version V``

Serves a package by KServe's V1 and V2 REST protocols: one process, no gRPC, no line a request. In a pod of KServe's the
package lies in /mnt/models, where the storage initializer puts it, options are spelt as KServe's own servers spell
them, and what differs between InferenceServices comes by the environment: ENDCAP_VERSION and ENDCAP_VARIANT.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from endcap.cpus import cpu_limit

from ..gateway import VARIANTS
from ..process import OWN_ERROR

MOUNT = Path("/mnt/models")
"""Where KServe's storage initializer puts what the InferenceService's storageUri names."""
GRACE = 10
"""Seconds that running requests get when the server is asked to stop."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    version, variant = os.environ.get("ENDCAP_VERSION"), os.environ.get("ENDCAP_VARIANT", VARIANTS[0])
    parser = argparse.ArgumentParser(prog="python -m endcap_serving.predictor", description="Serve a package.")
    parser.add_argument("--package", "--model_dir", type=Path, default=MOUNT, help="the package's folder")
    parser.add_argument(
        "--model-name", "--model_name", required=True, help="its name in the protocols' paths: the recommender's"
    )
    parser.add_argument(
        "--version", default=version, help="the registered version, told in every answer [default: $ENDCAP_VERSION]"
    )
    parser.add_argument(
        "--variant", default=variant, help=f"told in every answer: {' or '.join(VARIANTS)} [default: $ENDCAP_VARIANT]"
    )
    parser.add_argument("--port", "--http_port", type=int, default=8080)
    parser.add_argument("--host", default="0.0.0.0", help="the address to listen on")  # noqa: S104
    parser.add_argument(
        "--threads", type=int, default=cpu_limit(), help="threads that one ranking may use [default: the CPU limit]"
    )
    given = parser.parse_args(words)
    # What the environment says is not checked by the parser.
    if not given.version:
        parser.error("version: found none; give --version, or ENDCAP_VERSION in the environment")
    if given.variant not in VARIANTS:
        parser.error(f"variant: found {given.variant!r}; allowed: {', '.join(VARIANTS)}")
    return given


def serve(models: Sequence[Any], host: str, port: int) -> None:
    """Run KServe's model server on loaded models until a signal ends it."""
    import kserve
    from fastapi.exceptions import RequestValidationError
    from kserve.model_server import app

    from endcap.errors import RequestError

    from .model import AnyBodyDataPlane

    class Server(kserve.ModelServer):
        async def _serve(self) -> None:
            # KServe listens on all interfaces; a laptop's predictors are nobody else's business.
            self._rest_server.config.host = host
            await super()._serve()

    server = Server(http_port=port, workers=1, enable_grpc=False, enable_latency_logging=False, grace_period=GRACE)
    server.dataplane = AnyBodyDataPlane(model_registry=server.registered_models)
    app.add_exception_handler(RequestError, _bad_request)
    app.add_exception_handler(RequestValidationError, _bad_request)
    _quiet()
    server.start(list(models))


async def _bad_request(request: Any, error: Exception) -> Any:
    """400 with what is wrong, in the same shape as all of KServe's errors."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    from .model import REQUEST_ID, describe_validation

    text = describe_validation(error.errors()) if isinstance(error, RequestValidationError) else str(error)
    identity = request.headers.get(REQUEST_ID)
    headers = {REQUEST_ID: identity} if identity else {}
    return JSONResponse({"error": text}, status_code=400, headers=headers)


def _quiet() -> None:
    """Three lines a request, which are KServe's default, halve the throughput."""
    warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")
    logging.getLogger("uvicorn.access").handlers.clear()
    logging.getLogger("uvicorn.access").propagate = False
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)


def main(words: Sequence[str] | None = None) -> int:
    given = arguments(words)
    # Read by the numeric libraries as they are imported.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(given.threads)
    from endcap.errors import EndcapError
    from endcap.registry.package import load_package
    from endcap.store import check_folder

    try:
        # Whoever brought the package here may not have looked: a changed file must not serve.
        check_folder(given.package)
        package = load_package(given.package)
        # Only some models are of torch; loading one has imported it.
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(given.threads)
        # Its first ranking, which pays for what torch sets up, and proof that it answers as it did when it was judged.
        package.check()
    except EndcapError as error:
        print(f"{OWN_ERROR}{error}", file=sys.stderr)
        return 1
    # After the package, because KServe's import takes seconds that a damaged package need not wait for.
    from .model import RankingModel

    model = RankingModel(given.model_name, package.ranker, given.version, given.variant)
    # KServe would load, and so answer, only after it has begun to listen.
    model.load()
    serve([model], given.host, given.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
