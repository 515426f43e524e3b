"""Serve several packages by one model server: ``python -m tests.serving.many PORT NAME=FOLDER…``"""

from __future__ import annotations

import sys
from pathlib import Path

from endcap.registry.package import load_package
from endcap_serving.predictor.engine import Engine, Served
from endcap_serving.predictor.metrics import Metrics
from endcap_serving.predictor.server import serve
from endcap_serving.predictor.workers import listen


def main(port: str, *named: str) -> None:
    metrics = Metrics()
    engines = []
    for one in named:
        name, _, folder = one.partition("=")
        ranker = load_package(Path(folder)).ranker
        ranker.prepare()
        engines.append(Engine(Served(name, "7", "stable"), ranker, metrics))
    serve(engines, metrics, listen("127.0.0.1", int(port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
