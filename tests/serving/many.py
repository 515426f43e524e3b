"""Serve several packages by one model server: ``python -m tests.serving.many PORT NAME=FOLDER…``

The first is served once more as `slow`: each request takes SLOW seconds of waiting, which no other work on the machine
makes longer.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from endcap.ranking import Answer, Ranker, RankRequest
from endcap.registry.package import load_package
from endcap_serving.predictor.engine import Engine, ServedVersion
from endcap_serving.predictor.metrics import Metrics
from endcap_serving.predictor.scopes import GATEWAY
from endcap_serving.predictor.server import Sockets, serve_engines
from endcap_serving.predictor.workers import open_listener

SLOW = 0.02


def slowly(ranker: Ranker, requests: Sequence[RankRequest], **known: Any) -> list[Answer]:
    time.sleep(SLOW * len(requests))
    return ranker.rank(requests, **known)


def main(port: str, *named: str) -> None:
    metrics = Metrics()
    engines = []
    for one in named:
        name, _, folder = one.partition("=")
        ranker = load_package(Path(folder)).ranker
        ranker.prepare()
        engines.append(Engine(ServedVersion(name, "7", "stable", scope_from=GATEWAY), ranker, metrics))
    slow = copy.copy(engines[0].ranker)
    slow.rank = partial(slowly, engines[0].ranker)  # type: ignore[method-assign]
    engines.append(Engine(ServedVersion("slow", "7", "stable"), slow, metrics))
    serve_engines(engines, metrics, Sockets(open_listener("127.0.0.1", int(port))))


if __name__ == "__main__":
    main(*sys.argv[1:])
