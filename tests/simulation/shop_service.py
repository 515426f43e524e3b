"""A small HTTP server in the place of the gateway, predictors and intake of a shop."""

from __future__ import annotations

import itertools
import json
import threading
import zlib
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
RankItems = Callable[[str, Sequence[str], int], Sequence[str]]
"""Ranks for (shopper, items, k)."""


class ShopService(ThreadingHTTPServer):
    """Ranks by `stable` for half of the shoppers, by `canary` for the others, and keeps what is reported.

    failing: paths' ends that are refused, with their status. bad_type: the type of events that the intake rejects.
    """

    daemon_threads = True

    def __init__(self, stable: RankItems, canary: RankItems) -> None:
        self.rankers = {"stable": stable, "canary": canary}
        self.failing: dict[str, int] = {}
        self.bad_type = ""
        self.reports: dict[str, list[Json]] = {"impressions": [], "events": [], "orders": []}
        self.queries: list[Json] = []
        self.variants: dict[str, str] = {}
        """By ranking id."""
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = next((code for end, code in service.failing.items() if self.path.endswith(end)), 200)
                answer: Json = {"error": "no", "code": "test.refused"}
                if status == 200 and self.path.endswith("predict"):
                    shopper = self.headers["x-endcap-shopper"].encode("latin-1").decode()
                    answer = service.rank(shopper, body["instances"])
                elif status == 200:
                    answer = service.take(self.path.removeprefix("/v1/"), body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def rank(self, shopper: str, instances: Sequence[Json]) -> Json:
        variant = ("stable", "canary")[zlib.crc32(shopper.encode()) % 2]
        predictions = []
        for instance in instances:
            items = self.rankers[variant](shopper, instance["items"], instance["k"])
            with self._lock:
                ranking = f"r{next(self._numbers)}.0"
                self.variants[ranking] = variant
                self.queries.append({**instance, "shopper": shopper})
            ranked = [{"item": item, "score": 1.0} for item in items]
            prediction = {"items": ranked, "ranking_id": ranking, "variant": variant, "model_version": f"v-{variant}"}
            predictions.append(prediction)
        return {"predictions": predictions}

    def take(self, kind: str, records: Sequence[Json]) -> Json:
        bad = [n for n, record in enumerate(records) if self.bad_type and record.get("type") == self.bad_type]
        with self._lock:
            self.reports[kind] += [record for n, record in enumerate(records) if n not in bad]
        rejected = [{"index": n, "reason": "no", "code": "intake.wrong-value"} for n in bad]
        return {"accepted": len(records) - len(bad), "duplicates": 0, "rejected": rejected}
