"""A predictor's counters behind a small server: ``python -m tests.serving.counting_predictor HOST PORT MODEL VERSION``

It answers every request by the header `x-answer` (a status, or 200), counts that as a predictor does, and has a
predictor's page of metrics.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from endcap.ranking.answer import Answer
from endcap_serving.predictor.metrics import Metrics, write_exposition


def main(host: str, port: str, model: str, version: str) -> None:
    metrics = Metrics()
    metrics.set_model_info(model, version, "stable", {})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status = int(self.headers.get("x-answer", 200))
            metrics.count_answer(status, [None], 0.004)
            if status == 200:
                metrics.count_rankings([Answer(["p1"], [0.3])])
            self._answer(status, b"{}", "application/json")

        def do_GET(self) -> None:
            body, kind = write_exposition("")
            self._answer(200, body, kind)

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
