"""Facts of judged runs, made up: with everything there is to show, and with as little as there can be."""

from __future__ import annotations

from typing import Any

from endcap.report import ReportFacts

HOSTILE = "</script><script>alert('x')</script><img src=https://evil.example/x onerror=alert(1)>\"'&<b>"
METRICS = ("mrr", "hr", "ndcg", "next_ndcg", "recall", "precision", "popularity_bias")
MODELS = ("challenger", "champion", "popularity", "vsknn")


def row(model: str, metric: str, value: float, interval: bool = True) -> dict[str, Any]:
    def numbers(one: float) -> list[float | None]:
        return [one, one - 0.01, one + 0.01] if interval else [one, None, None]

    compared = {} if model == "challenger" else {"difference": numbers(0.36 - value), "ratio": numbers(1.1)}
    return {"model": model, "metric": metric, "value": numbers(value), **compared}


def table() -> list[dict[str, Any]]:
    values = dict(zip(MODELS, (0.36, 0.345, 0.03, 0.355), strict=True))
    rows = [row(name, f"{metric}@{k}", values[name]) for name in MODELS for metric in METRICS for k in (5, 20)]
    rows += [row(name, f"coverage@{k}", values[name], interval=False) for name in MODELS for k in (5, 20)]
    return rows + [row(name, "p90_ms", 3.0, interval=False) for name in MODELS]


def trial(number: int, state: str, value: float | None, **more: Any) -> dict[str, Any]:
    parameters = {
        "learning_rate": 10.0 ** -(number % 4),
        "loss": ("bpr-max", HOSTILE)[number % 2],
        "width": 32 + number,
    }
    return {"number": number, "state": state, "value": value, "parameters": parameters, "seconds": 3.5, **more}


def search() -> dict[str, Any]:
    done = [trial(number, "complete", 0.3 + number / 100, epochs=4) for number in range(6)]
    others = [
        trial(6, "pruned", 0.2),
        trial(7, "failed", None, error=f"the loss became NaN {HOSTILE}"),
        trial(8, "cut", 0.31),
    ]
    return {
        "trials": [*done, *others],
        "importances": {"learning_rate": 0.7, "loss": 0.3},
        "best": 5,
        "as_written": {"state": "cut", "value": 0.3, "epochs": 4},
        "failed": 1,
        "cut": 1,
    }


def samples() -> dict[str, Any]:
    def item(number: int) -> dict[str, Any]:
        return {"item": f"i{number}", "title": f"Lamp {number} {HOSTILE}"} if number % 2 else {"item": f"i{number}"}

    session = {
        "kind": "challenger",
        "earlier": 3,
        "shown": [item(1), item(2)],
        "next": item(3),
        "lists": {"challenger": [item(4), item(3)], "champion": [{"item": None}]},
        "ranks": {"challenger": 2, "champion": 0},
    }
    return {"models": ["challenger", "champion"], "cutoff": 10, "sessions": [session]}


def verdict(**more: Any) -> dict[str, Any]:
    facts = {"passed": True, "conditions": [], "warnings": [], "predictions": 100, "sessions": 40, "items": 9}
    return {"address": "file:///store/verdicts/shop/1", "created": "2026-01-02T03:04:05+00:00", "facts": facts | more}


def data() -> dict[str, Any]:
    """What the data of a verdict say, in a shop where nothing is as it should be."""
    unmatched = {"ids": 2, "missing": 1, "examples": [HOSTILE], "likely": None}
    likely = {"reason": "leading_zeros", "ids": 1, "example": [HOSTILE, "100"]}
    of_length = {"mean": 2.5, "min": 1.0, "lower": 1.0, "median": 2.0, "upper": 3.0, "most": 9.0, "max": 9.0}
    bands = dict.fromkeys(("1", "2", "3", "4", "5", "6-10", "11-20", "21-50", "51-100", "101+"), 0)
    bad = {"bad": {HOSTILE: 3}, "left_out": {"where": 2}, "read": 105, "repeated": 0, "good": 100}
    example = {HOSTILE: {"source": f"/in/{HOSTILE}", "line": 7, "value": HOSTILE}}
    return {
        "shop": "shop",
        "data": {
            "events": 100,
            "first": 1_709_287_200_000,
            "last": 1_709_629_440_000,
            "days": {"first": "2024-03-01", "events": [60, 0, 0, 30, 10]},
            "types": {HOSTILE: 90, "": 10},
            "other_types": 0,
            "anonymous": 10,
            "day_only": False,
            "items": {
                "log": 2,
                "words": {HOSTILE: 1},
                "alike": {"case": {"ids": 2, "example": [HOSTILE, HOSTILE.upper()]}},
                "table": {**unmatched, "likely": likely, "events": 50},
                "unused": unmatched,
            },
        },
        "files": [
            {"table": "events", "path": HOSTILE, "files": 2, "bytes": 10, "skipped": [f"{HOSTILE}.zip"], "empty": []}
        ],
        "rows": {"events": {**bad, "examples": example}},
        "sessions_by": "given",
        "sessions": {
            "lengths": {**of_length, "bands": {**bands, "2": 30, "6-10": 4}},
            "minutes": of_length,
            "customers_alike": {"blanks": {"ids": 2, "example": [HOSTILE, f" {HOSTILE}"]}},
            "transitions": 60,
            "equal_times": 6,
            "one_moment": 2,
            "after": {"sessions": 34, "events": 90, "items": 2, "customers": 9},
            "before_filters": {"sessions": 44, "events": 100, "items": 2, "customers": 9},
            "single": 10,
            "types": None,
            "dropped": {"min_session_events": 10},
            "test": {"sessions": 0, "events": 0},
            "window": {"from": None, "until": 1_709_629_440_001},
        },
        "identity": {"shared_sessions": 3},
        "rules": {"items": 2, "attributes": {HOSTILE: _rule(unmatched)}, "blacklist": unmatched, "stock": 0},
        "warnings": [{"name": "item_table_unmatched", "text": f"no id of the item table is in the log {HOSTILE}"}],
    }


def _rule(values: dict[str, Any]) -> dict[str, Any]:
    return {"attribute": HOSTILE, "allows": True, "values": values, "items": 0}


def full() -> ReportFacts:
    """Everything, and every text that comes from outside is an attack."""
    lengths = {"1": 0.3, "10+": 0.2, "2": 0.4}
    rows = {name: {"predictions": 30.0, "mrr@20": value, "hr@20": value} for name, value in lengths.items()}
    judged = verdict(
        passed=False,
        conditions=[
            {"text": f"mrr@20 minus champion's is -0.01, at least 0 {HOSTILE}", "passed": False},
            {"text": "hr@20 is 0.36, at least 0.1", "passed": True},
        ],
        warnings=[f"the champion knows too much {HOSTILE}"],
        champion={"version": "3", "package": "file:///store/packages/shop/3"},
        segments={name: {"prefix": rows, "age": {"new": rows["1"], "older": rows["2"]}} for name in MODELS},
        counts={"all": {"sessions": 1000, "events": 5000}, "test": {"sessions": 40, "events": 140, "unseen_events": 2}},
        dataset="file:///store/datasets/shop/1",
        confidence=0.9,
    )
    epochs = [{"epoch": at, "loss": 5.0 / at, "validation": 0.3 + at / 100, "seconds": 1.5} for at in (1, 2, 3)]
    trained = {
        "facts": {
            "model": {"name": "gru4rec", "width": 100, "note": HOSTILE},
            "found": {"epochs": 2},
            "history": epochs,
            "search": search(),
            "environment": {"python": "3.11.7"},
        }
    }
    return ReportFacts.of("shop", judged, trained, {"table": table(), "samples": samples()}, data())


def bare() -> ReportFacts:
    """One model, a metric, nothing else."""
    return ReportFacts.of("shop", verdict(), {}, {"table": [row("challenger", "mrr@20", 0.3)]})


def compared() -> ReportFacts:
    """Two models and a baseline without a gate; labels and settings come from outside, too."""
    labels = {"challenger": "fast", "champion": HOSTILE, "popularity": "popularity"}
    rows = [{**one, "model": labels[one["model"]]} for one in table() if one["model"] in labels]
    differences = {
        label: {"mrr@20": [-0.01, -0.02, 0.01], "hr@20": [0.1, 0.05, 0.2]} for label in (HOSTILE, "popularity")
    }
    facts = {
        "labels": list(labels.values()),
        "trained": {"fast": "file:///store/trained/shop/1", HOSTILE: "file:///store/trained/shop/2"},
        "models": {
            "fast": {"name": "gru4rec", "settings": {"width": 100}},
            HOSTILE: {"name": "Markov", "settings": {"note": HOSTILE}},
            "popularity": {"name": "popularity", "settings": {}},
        },
        "differences": differences,
        "segments": {label: {"prefix": {"1": {"predictions": 3.0, "mrr@20": 0.3}}} for label in labels.values()},
        "warnings": [f"the log is odd {HOSTILE}"],
        "predictions": 100,
        "sessions": 40,
        "items": 9,
        "dataset": "file:///store/datasets/shop/1",
    }
    epochs = [{"epoch": at, "loss": 5.0 / at, "validation": 0.3, "seconds": 1.5} for at in (1, 2)]
    trained = {
        "fast": {"facts": {"found": {"epochs": 2}, "history": epochs}},
        HOSTILE: {"facts": {"history": epochs[:1]}},
    }
    manifest = {"address": "file:///store/comparisons/shop/1", "created": "2026-01-02T03:04:05+00:00", "facts": facts}
    drawn = {**samples(), "models": ["fast", HOSTILE]}
    (session,) = drawn["sessions"]
    drawn["sessions"] = [
        {
            **session,
            **{key: dict(zip(drawn["models"], session[key].values(), strict=True)) for key in ("lists", "ranks")},
        }
    ]
    return ReportFacts.of_comparison("shop", manifest, trained, {"table": rows, "samples": drawn}, data())
