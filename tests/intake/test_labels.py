"""Nothing that callers send makes a series of a metric."""

from __future__ import annotations

from pathlib import Path

from endcap_serving.predictor.surfaces import MOST, OFTEN, OTHER_SURFACE, Surfaces
from tests.intake.servers import Server, event, run_server


def series(server: Server) -> set[str]:
    lines = server.client.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_a_thousand_strange_requests_make_no_series(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        for body in (event("a"), {"id": "x"}, [event("b"), {}]):
            server.post("events", body)
        server.client.get("/v1/events")
        before = series(server)
        for number in range(250):
            odd = f'{number}"\\\n{{}}'
            server.client.get(f"/v1/{number}")
            server.client.request(f"ODD{number}", f"/v1/events/{number}")
            server.post("events", event(odd, type=odd, surface=odd))
            server.post("events", [event(str(number), type=str(number), surface="s" * number, customer=str(number))])
        new = series(server) - before
    assert new <= {'endcap_intake_requests_total{path="/v1/events",status="200"}'}


def test_surfaces_that_rules_name_or_that_are_often_asked_for_are_named() -> None:
    surfaces = Surfaces()
    for number in range(5000):
        assert surfaces.label(f"made up {number}") == OTHER_SURFACE
    surfaces.add_known(["fen"])
    assert surfaces.label("fen") == "fen"
    assert [surfaces.label("home") for _ in range(OFTEN + 1)][-1] == "home"
    labels = {surfaces.label(f"page {number % 100}") for number in range(100 * (OFTEN + 2))}
    assert len(labels) <= MOST
    assert surfaces.label(None) == "none"
