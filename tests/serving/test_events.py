"""Events as lines for a person, and as documents for a program."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from endcap.errors import EndcapError
from endcap_serving.json_log import CANNOT_RUN
from endcap_serving.local import events
from endcap_serving.local.process import Process

ERROR = EndcapError("it broke\n  in two", code="serving.process-ended", status=-9)
NO_AB = {"popularity_only": False, "challengers": []}
NO_BASELINE = {"baseline_share": 0.0} | NO_AB
NO_PREVIOUS = {"previous": None, "previous_share": 0.0} | NO_BASELINE
EVENTS: list[tuple[events.ServingEvent, str, dict[str, object]]] = [
    (
        events.PredictorStarted("2", "canary", 7, Path("/run/log")),
        "version 2 (canary) starts, process 7, log /run/log",
        {"event": "predictor-started", "version": "2", "variant": "canary", "pid": 7, "log": "/run/log"},
    ),
    (
        events.PredictorFailed("1", "stable", 4.0, ERROR),
        "version 1 (stable) failed, next try in 4 s: it broke",
        {
            "event": "predictor-failed",
            "version": "1",
            "variant": "stable",
            "retry_in": 4.0,
            "error": {
                "code": "serving.process-ended",
                "message": "it broke\n  in two",
                "fields": {"status": -9},
            },
        },
    ),
    (
        events.RoutesChanged("1", "2", 0.1, "3", 0.25),
        (
            "version 1 (stable) answers 90 % of the shoppers, version 2 (canary) 10 %"
            "; version 3 (shadow) gets copies of 25 % of the requests"
        ),
        {"event": "routed", "stable": "1", "canary": "2", "share": 0.1, "shadow": "3", "shadow_share": 0.25}
        | NO_PREVIOUS,
    ),
    (
        events.RoutesChanged("2", previous="1", previous_share=0.02),
        "version 2 (stable) answers 98 % of the shoppers, version 1 (previous) 2 %",
        {"event": "routed", "stable": "2", "canary": None, "share": 0.0, "shadow": None, "shadow_share": 0.0}
        | {"previous": "1", "previous_share": 0.02}
        | NO_BASELINE,
    ),
    (
        events.RoutesChanged("1", "2", 0.1, baseline_share=0.02),
        (
            "popularity answers 2 % of the shoppers"
            "; of the others version 1 (stable) answers 90 %, version 2 (canary) 10 %"
        ),
        {"event": "routed", "stable": "1", "canary": "2", "share": 0.1, "shadow": None, "shadow_share": 0.0}
        | NO_PREVIOUS
        | {"baseline_share": 0.02},
    ),
    (
        events.RoutesChanged("1", "2", 0.1, popularity_only=True),
        "popularity answers everyone",
        {"event": "routed", "stable": "1", "canary": "2", "share": 0.1, "shadow": None, "shadow_share": 0.0}
        | NO_PREVIOUS
        | {"popularity_only": True},
    ),
    (
        events.RoutesChanged("1", challengers=(events.ChallengerShare("challenger-2", "3", 0.6),)),
        "version 1 (stable) answers 40 % of the shoppers, version 3 (challenger-2) 60 %",
        {"event": "routed", "stable": "1", "canary": None, "share": 0.0, "shadow": None, "shadow_share": 0.0}
        | NO_PREVIOUS
        | {"challengers": [{"variant": "challenger-2", "version": "3", "share": 0.6}]},
    ),
    (
        events.RoutesChanged("1"),
        "version 1 (stable) answers everyone",
        {"event": "routed", "stable": "1", "canary": None, "share": 0.0, "shadow": None, "shadow_share": 0.0}
        | NO_PREVIOUS,
    ),
]


@pytest.mark.parametrize(("event", "line", "document"), EVENTS, ids=[line[:30] for _, line, _ in EVENTS])
def test_an_event_is_a_line_and_a_document(event: events.ServingEvent, line: str, document: dict[str, object]) -> None:
    assert str(event) == line
    assert json.loads(json.dumps(event.to_json())) == document


def failure(folder: Path, script: str) -> EndcapError:
    process = Process("child", [sys.executable, "-c", script], folder / "log")
    process.end(patience=20)
    return process.read_failure()


def test_a_process_of_endcap_ends_by_the_error_that_it_logged(tmp_path: Path) -> None:
    said = {"message": CANNOT_RUN, "error": "no package", "code": "store.not-found", "fields": {"address": "a"}}
    error = failure(tmp_path, f"import sys; print({json.dumps(said)!r}); sys.exit(1)")
    assert (error.code, error.fields["address"], error.fields["status"]) == ("store.not-found", "a", 1)
    # The next one has the same log, and a reason of its own.
    error = failure(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert error.code == "serving.process-ended"
    assert error.fields == {"process": "child", "status": -9, "log": str(tmp_path / "log")}


def test_a_process_that_logged_no_error_is_told_by_its_last_words(tmp_path: Path) -> None:
    error = failure(tmp_path, "raise SystemExit('the last word')")
    assert (error.code, error.fields["status"]) == ("serving.process-ended", 1)
    assert "the last word" in str(error)
