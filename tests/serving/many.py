"""Serve several packages by one model server: ``python -m tests.serving.many PORT NAME=FOLDER…``"""

from __future__ import annotations

import sys
from pathlib import Path

from endcap.registry.package import load_package
from endcap_serving.predictor.__main__ import serve
from endcap_serving.predictor.model import RankingModel


def main(port: str, *named: str) -> None:
    models = []
    for one in named:
        name, _, folder = one.partition("=")
        model = RankingModel(name, load_package(Path(folder)).ranker, version="7", variant="stable")
        model.load()
        models.append(model)
    serve(models, "127.0.0.1", int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
