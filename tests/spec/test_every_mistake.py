"""No mistake hides another: each is named beside every other one that it does not depend on."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import endcap
from endcap.errors import SpecError
from endcap.project.factory import open_project
from endcap.spec.load import load, load_documents
from endcap.spec.yaml_tree import Key, format_key
from tests.spec.test_load import RECOMMENDER as RECOMMENDER_FILE
from tests.spec.test_load import SHOP as SHOP_FILE
from tests.spec.test_load import problems, specs, write

__all__ = ["specs"]

SHOP: dict[str, Any] = {
    "apiVersion": "endcap/v2",
    "kind": "Shop",
    "name": "toys",
    "events": {
        "sources": [
            {"path": "events.csv", "layout": "columns", "format": "csv", "delimiter": ";", "header": ["a", "b"]},
            {"path": "old.csv", "part": "train", "where": {"country": ["CH"], "price": {"above": 0}, "shop": "a"}},
        ],
        "columns": {"item": "sku", "time": "at", "session": "visit", "customer": ["first", "last"], "type": "act"},
        "time": {"unit": "ms", "zone": "Europe/Zurich"},
        "types": ["view", "buy"],
        "returns": {"quantity": {"below": 0}},
        "drop_duplicates": False,
        "max_bad_share": 0.1,
    },
    "items": {
        "sources": [{"path": "items.csv", "layout": "columns"}, {"path": "more.csv"}],
        "columns": {"item": "sku", "category": "c", "price": "p"},
        "categorical": ["brand"],
        "numeric": ["weight"],
    },
    "customers": {"sources": [{"path": "customers.csv"}], "columns": {"customer": "id"}, "categorical": ["town"]},
    "sessions": {"by": "given", "gap": "30m"},
    "filters": {"min_session_events": 2, "min_item_events": 1},
    "window": "90d",
    "features": {
        "events": [
            {"name": "gap", "kind": "gap", "buckets": [1, 60]},
            {"name": "hour", "kind": "hour"},
            {"name": "act", "kind": "type", "types": ["view", "buy"]},
        ]
    },
    "rules": {
        "blacklist": {"sources": [{"path": "black.csv"}], "column": "sku"},
        "stock": {"attribute": "weight", "at_least": 1.0},
        "owned": {"types": ["buy"], "keep": "7d"},
        "attributes": [
            {"name": "some", "attribute": "brand", "only": ["x"], "surfaces": ["home"]},
            {"name": "none", "attribute": "category", "never": ["y"]},
        ],
    },
}
POD = {"cpu": 1, "memory": "1Gi", "gpu": {"count": 1}, "tolerations": [{"key": "k", "effect": "NoSchedule"}]}
RECOMMENDER: dict[str, Any] = {
    "apiVersion": "endcap/v2",
    "kind": "Recommender",
    "name": "home",
    "shop": "toys",
    "seed": 1,
    "split": {"by": "time", "test": 0.1, "validation": 0.1},
    "classes": ["elsewhere.models:Own", "elsewhere.steps:Clean"],
    "preprocessing": [{"class": "elsewhere.steps:Clean", "parameters": {"a": 1}}],
    "model": {
        "name": "blend",
        "members": {
            "net": {"name": "gru4rec", "batch_size": 48, "width": 64, "features": ["gap"], "item_features": ["brand"]},
            "near": {"name": "vsknn", "neighbours": 50, "last_events": 5},
        },
    },
    "search": {
        "trials": 5,
        "time_budget": "5m",
        "concurrency": 2,
        "cpu": 1.0,
        "space": {"net.batch_size": {"values": [32, 48]}, "near.last_events": {"low": 2, "high": 8, "integer": True}},
        "fixed": ["net.loss", "near.idf_weight"],
        "min_epochs": 2,
        "cluster": {"workers": 2, "head": POD},
    },
    "training": {"workers": 2, "cpu": 1.0, "cluster": {"workers": 2, "image": "i"}},
    "baselines": [
        {"name": "popularity"},
        {"name": "recent-popularity", "window": "3d"},
        {"name": "sasrec", "features": ["hour"], "item_features": ["category"], "dropout": 0.1},
        {"name": "custom", "class": "elsewhere.models:Own", "parameters": {}},
    ],
    "exclude": "last",
    "evaluation": {
        "protocol": "every-prefix",
        "negatives": {"count": 9, "draws": 2},
        "cutoffs": [5, 20],
        "bootstrap": 200,
        "confidence": 0.9,
    },
    "gate": {
        "evidence": {"min_sessions": 50, "max_half_width": 0.2},
        "conditions": [
            {"metric": "mrr@20", "against": "sasrec", "min": 0.0, "bound": "lower"},
            {"metric": "hr@5", "max": 0.9},
        ],
    },
    "refit": True,
    "serving": {
        "k": 10,
        "max_k": 100,
        "timeout": "1s",
        "canary": {"share": 0.1},
        "kubernetes": {
            "nodeSelector": {"pool": "a"},
            "replicas": {"min": 1, "max": 2},
            "canary": {"nodeSelector": {"pool": "b"}},
            "route": {"gateway": "n/g", "hostname": "h"},
            "mode": "auto",
        },
    },
    "rollout": {
        "promote": "no_harm",
        "margin": 0.02,
        "promote_by": "top",
        "metrics": [
            {"kind": "ctr", "name": "top", "first": 3, "budget": 0.6, "types": ["view"], "window": "1h"},
            {"kind": "revenue", "budget": 0.4},
        ],
        "guardrails": [{"kind": "errors", "limit": 0.01, "times": 2.0}, {"kind": "latency", "quantile": 0.95}],
        "first_share": 0.02,
        "steps": [{"share": 0.1, "worst": -0.5}, {"share": 0.4, "worst": -0.2}],
        "longest": "5d",
        "look_every": "5m",
        "shadow": "1h",
        "guard": {"previous_share": 0.01, "on_breach": "rollback"},
    },
    "ab": {"epoch": "20m", "look_every": "5m", "longest": "5d", "min_epochs": 1, "floor": 0.2, "max_moved": 0.5},
    "batch": {"k": 10, "keep": "3d"},
    "pipeline": {
        "image": "i",
        "defaults": copy.deepcopy(POD),
        "steps": {
            "check": {
                "after": "ingest",
                "image": "i",
                "command": ["run"],
                "arguments": {"a": 1},
                "secrets": [{"secret": "s", "key": "k", "env": "E"}],
                "retries": {"count": 1, "backoff": "1s"},
            },
            "prices": {"after": "check", "function": "shop.checks:prices"},
            "train": {"memory": "8Gi", "deadline": "1h"},
            "deploy": {"enabled": False},
        },
    },
}


@dataclass(frozen=True)
class Planted:
    """A mistake: the value that is put at a key, and where it is to be named.

    `reads` are other keys without which nothing can be said, as `shop:a.b[0]`; with a star the keys below count too.
    """

    of: str
    at: Key
    value: Any
    place: str
    reads: tuple[str, ...] = ()

    def plant(self, documents: dict[str, Any]) -> None:
        node = documents[self.of]
        for part in self.at[:-1]:
            node = node[part]
        if isinstance(node, list) and self.at[-1] == len(node):
            node.append(copy.deepcopy(self.value))
        else:
            node[self.at[-1]] = copy.deepcopy(self.value)

    def goes_with(self, other: Planted) -> bool:
        """Whether both can be planted, and each be named whatever the other is."""
        return not (self.overlaps(other) or self.needs(other) or other.needs(self))

    def overlaps(self, other: Planted) -> bool:
        short, long = sorted((self.at, other.at), key=len)
        return self.of == other.of and long[: len(short)] == short

    def needs(self, other: Planted) -> bool:
        key = f"{other.of}:{format_key(other.at)}"
        return any(
            _is_below(read.removesuffix("*"), key) or (read.endswith("*") and _is_below(key, read.removesuffix("*")))
            for read in (*self.reads, f"{self.of}:{self.place}")
        )


def _is_below(key: str, above: str) -> bool:
    return key == above or key.startswith((f"{above}.", f"{above}["))


def wrong(of: str, at: str, value: Any, place: str = "", *, reads: str = "") -> Planted:
    key = tuple(int(part) if part.isdecimal() else part for part in at.split("/"))
    full = tuple(read if read.startswith("shop:") else f"{of}:{read}" for read in reads.split())
    return Planted(of, key, value, place or format_key(key), full)


MEMBERS = (
    "model model.name model.members model.members.net model.members.net.name model.members.near model.members.near.name"
)
NAMES = " ".join(f"baselines[{number}].name" for number in range(4))
EVENT_FEATURES = " ".join(f"shop:features.events[{number}].name" for number in range(3))
NEAR = "search.space.near.last_events"
ATTRIBUTES = (
    "shop:items.sources[0].layout shop:items.columns.category shop:items.columns.price shop:items.categorical* "
    "shop:items.numeric*"
)
METRIC_KINDS = "rollout.metrics[0].kind rollout.metrics[1].kind"
METRIC_NAMES = f"{METRIC_KINDS} rollout.metrics[0].name rollout.metrics[1].name"
BETWEEN_KEYS = [
    wrong("shop", "events/sources/0/layout", "retailrocket", "sessions.by"),
    wrong("shop", "events/sources/1/simulated", {}, reads="events.sources[1].path"),
    wrong("shop", "events/time/zone", "Europe/Zurch"),
    wrong("shop", "events/time/format", "%Y-%m-%d", reads="events.time.unit"),
    wrong("shop", "events/returns/quantity", {"below": 0, "present": False}, "events.returns.quantity.present"),
    wrong("shop", "events/columns/type", None, "rules.owned.types", reads="events.sources*"),
    wrong("shop", "items/sources/1/layout", "rees46", reads="items.sources[0].layout"),
    wrong("shop", "features/events/1/name", "gap", reads="features.events[0].name"),
    wrong("shop", "features/events/0/buckets", [3, 1]),
    wrong("shop", "features/events/1/types", ["view"], reads="features.events[1].kind"),
    wrong(
        "shop",
        "features/events/3",
        {"name": "more", "kind": "type", "types": ["a"]},
        "features.events[3].kind",
        reads="features.events[2].kind",
    ),
    wrong("shop", "rules/stock/attribute", "brand", reads=ATTRIBUTES),
    wrong("shop", "rules/attributes/0/attribute", "weight", reads=ATTRIBUTES),
    wrong("shop", "rules/attributes/0/never", ["x"], "rules.attributes[0]", reads="rules.attributes[0].only"),
    wrong("shop", "rules/attributes/1/name", "some", reads="rules.attributes[0].name"),
    wrong("shop", "rules/blacklist/sources/0/simulated", {}),
    wrong("recommender", "split/validation", 0.95, reads="split.test split.by"),
    wrong("recommender", "preprocessing/0/class", "other.steps:Unlisted", reads="classes*"),
    wrong("recommender", "baselines/3/class", "other.models:Unlisted", reads="classes* baselines[3].name"),
    wrong("recommender", "model/members/net/features/0", "nope", reads=f"{MEMBERS} {EVENT_FEATURES}"),
    wrong("recommender", "baselines/2/item_features/0", "nope", reads=f"baselines[2].name {ATTRIBUTES}"),
    wrong("recommender", "search/space/net.widht", {"values": [1]}, reads=MEMBERS),
    wrong("recommender", "search/space/near.last_events/low", 0, reads=f"{MEMBERS} {NEAR}.integer"),
    wrong("recommender", "search/space/near.last_events/high", 1, reads=f"{NEAR}.low"),
    wrong("recommender", "search/space/net.batch_size/values/0", "many", reads=MEMBERS),
    wrong("recommender", "search/fixed/0", "net.los", reads=MEMBERS),
    wrong("recommender", "search/fixed/1", "near.last_events", reads="search.space search.space.near.last_events"),
    wrong("recommender", "search/address", "ray://x:1", "search.cluster"),
    wrong("recommender", "training/workers", 5, reads=f"{MEMBERS} model.members.net.batch_size"),
    wrong("recommender", "training/address", "ray://x:1", "training.cluster"),
    wrong("recommender", "baselines/1/name", "popularity", reads="baselines[0].name"),
    wrong("recommender", "split/by", "leave-one-out", "evaluation.protocol"),
    wrong("recommender", "evaluation/basket", "complete", reads="evaluation.protocol"),
    wrong("recommender", "gate/conditions/0/against", "vsknn", reads=NAMES),
    wrong("recommender", "gate/conditions/1/metric", "hr@7", reads="evaluation.cutoffs*"),
    wrong("recommender", "gate/conditions/1/min", 0.1, "gate.conditions[1]"),
    wrong("recommender", "rollout/promote", "superior", "rollout.margin"),
    wrong("recommender", "rollout/promote_by", "bottom", reads=METRIC_NAMES),
    wrong("recommender", "rollout/metrics/1/name", "top", reads=f"{METRIC_KINDS} rollout.metrics[0].name"),
    wrong("recommender", "rollout/metrics/1/budget", 0.5, reads=f"rollout.metrics[0].budget {METRIC_KINDS}"),
    wrong("recommender", "rollout/metrics/0/window", "0s", reads="rollout.metrics[0].kind"),
    wrong(
        "recommender",
        "rollout/guardrails/1/name",
        "errors",
        reads="rollout.guardrails[0].kind rollout.guardrails[1].kind",
    ),
    wrong("recommender", "rollout/steps/0/share", 0.01, reads="rollout.first_share"),
    wrong("recommender", "rollout/steps/1/worst", -0.6, reads="rollout.steps[0].worst"),
    wrong("recommender", "rollout/look_every", "6d", reads="rollout.longest"),
    wrong(
        "recommender",
        "rollout/longest",
        "30m",
        reads=f"{METRIC_NAMES} rollout.promote_by rollout.metrics[0].window",
    ),
    wrong("recommender", "ab/look_every", "1h", reads="ab.epoch"),
    wrong("recommender", "ab/epoch", "6d", reads="ab.longest"),
    wrong("recommender", "ab/min_epochs", 1000, reads="ab.epoch ab.longest"),
    wrong(
        "recommender",
        "ab/longest",
        "30m",
        reads=f"{METRIC_NAMES} rollout.promote_by rollout.metrics[0].window",
    ),
    wrong("recommender", "serving/k", 200, "serving.max_k"),
    wrong("recommender", "serving/kubernetes/replicas/min", 3, "serving.kubernetes.replicas.max"),
    wrong("recommender", "serving/kubernetes/canary/nodeSelector", {}, reads="serving.kubernetes.nodeSelector"),
    wrong("recommender", "pipeline/defaults/tolerations/0", {}, "pipeline.defaults.tolerations[0].key"),
    wrong("recommender", "pipeline/steps/check/after", "nowhere"),
    wrong("recommender", "pipeline/steps/prices/command", ["run"]),
    wrong("recommender", "pipeline/steps/train/enabled", False),
    wrong("recommender", "pipeline/steps/deploy/after", "train"),
]
"""What only several keys together show to be wrong, and what checks of single keys find beyond their types."""

ANY = ("parameters", "values")
"""Keys below which anything may stand."""
MAPS = ("where", "returns", "members", "space", "steps", "arguments", "nodeSelector")
"""Keys of maps with names of the user's own."""
CONDITIONS = ("where", "returns")
"""Keys of maps whose values may be a scalar, a list or a map."""
TEXT_TOO = ("customer", "country")
"""Keys of lists that may be a text."""


def of_one_key(of: str, value: Any, key: Key = ()) -> Iterator[Planted]:
    """For each key of a document a value of a wrong type, and for each map a key that it does not know."""
    place = format_key(key)
    if key and key[-1] in (*ANY, *TEXT_TOO):
        return
    if isinstance(value, dict):
        if key and key[-1] not in MAPS:
            yield Planted(of, (*key, "unknown"), 1, f"{place}.unknown")
        for name, one in value.items():
            yield from of_one_key(of, one, (*key, name))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from of_one_key(of, one, (*key, number))
    if not key or (key[-2:-1] and key[-2] in CONDITIONS):
        return
    yield Planted(of, key, 5 if isinstance(value, dict) else "text" if isinstance(value, list) else {"no": 1}, place)


OF_ONE_KEY = [*of_one_key("shop", SHOP), *of_one_key("recommender", RECOMMENDER)]


def named(*planted: Planted) -> list[str]:
    """The keys that a check of both documents names, after mistakes were planted."""
    documents = copy.deepcopy({"shop": SHOP, "recommender": RECOMMENDER})
    for one in sorted(planted, key=lambda one: [str(part) for part in one.at]):
        one.plant(documents)
    with pytest.raises(SpecError) as caught:
        load_documents(documents["recommender"], documents["shop"])
    return [problem.key for problem in caught.value.problems]


def test_the_documents_are_right_before() -> None:
    assert load_documents(RECOMMENDER, SHOP).absent == ("elsewhere.models:Own", "elsewhere.steps:Clean")


def identity(one: Planted) -> str:
    return f"{one.of}:{format_key(one.at)}"


def groups(one: Planted) -> Iterator[list[Planted]]:
    """Each mistake between keys that goes with this one, in groups that go together."""
    left = [other for other in BETWEEN_KEYS if other is not one and one.goes_with(other)]
    while left:
        group: list[Planted] = []
        for other in left:
            if all(other.goes_with(before) for before in group):
                group.append(other)
        yield group
        left = [other for other in left if other not in group]


@pytest.mark.parametrize("one", BETWEEN_KEYS, ids=identity)
def test_a_mistake_between_keys_is_named_beside_each_other(one: Planted) -> None:
    assert one.place in named(one)
    for group in groups(one):
        assert {one.place, *(other.place for other in group)} - set(named(one, *group)) == set()


@pytest.mark.parametrize("one", OF_ONE_KEY, ids=identity)
def test_a_wrong_value_hides_nothing_and_nothing_is_made_up_for_it(one: Planted) -> None:
    (key,) = set(named(one))
    # Of a value that may be of several kinds, the value is wrong as a whole.
    assert _is_below(key, one.place) or _is_below(one.place, key)
    beside = list(groups(one))
    group = beside[OF_ONE_KEY.index(one) % len(beside)]
    assert {key, *(other.place for other in group)} - set(named(one, *group)) == set()


def keys(file: Path, env: str | None = None) -> list[str]:
    """Files and keys of the problems of specs in files."""
    return [f"{one.file.partition(':')[0]} {one.key}" for one in problems(load, file, env=env)]


def test_an_overlay_the_file_below_it_and_the_environments_hide_nothing_of_each_other(
    specs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(specs)
    write(specs / "home.yaml", RECOMMENDER_FILE + "extends: base.yaml\ngate: [{metric: mrr@7, min: 0}]\n")
    write(specs / "base.yaml", "sede: 1\nmodel: {nieghbours: 5}\nevaluation: {bootstrap: 1}\n")
    write(specs / "home" / "overlays" / "prod.yaml", "search: {trials: 0, fixed: [sampel]}\n")
    write(specs / "shops" / "toys" / "overlays" / "prod.yaml", "window: 3\n")
    write(specs / "shops" / "toys.yaml", SHOP_FILE + "rules: {stock: {}}\n")
    write(specs / "environments.yaml", "apiVersion: endcap/v2\nkind: Environments\nenvironments: {prod: {stor: x}}\n")
    assert keys(Path("home.yaml"), "prod") == [
        "base.yaml sede",
        "base.yaml model.nieghbours",
        "base.yaml evaluation.bootstrap",
        "home.yaml gate[0].metric",
        "home/overlays/prod.yaml search.trials",
        "home/overlays/prod.yaml search.fixed[0]",
        "shops/toys.yaml rules.stock.attribute",
        "shops/toys/overlays/prod.yaml window",
        "environments.yaml environments.prod.stor",
    ]


@pytest.mark.parametrize("base", [None, "kind: [", "- a list\n"], ids=["missing", "malformed", "no-map"])
def test_of_a_file_below_that_cannot_be_read_nothing_is_guessed(specs: Path, base: str | None) -> None:
    if base is not None:
        write(specs / "base.yaml", base)
    write(specs / "home.yaml", "extends: base.yaml\nkind: Recommender\nshop: toys\nsede: 1\nrefit: 5\n")
    write(specs / "shops" / "toys.yaml", SHOP_FILE + "windw: 1d\n")
    first, *others = problems(load, specs / "home.yaml")
    assert first.code in ("not-found", "malformed")
    assert [(one.key, one.code) for one in others] == [
        ("sede", "unknown-key"),
        ("refit", "wrong-type"),
        ("windw", "unknown-key"),
    ]


def test_a_misspelt_kind_and_a_newer_version_hide_nothing_of_what_can_be_judged(
    specs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(specs)
    write(specs / "shops" / "toys.yaml", SHOP_FILE.replace("kind: Shop", "kind: Shopp") + "windw: 1d\n")
    write(specs / "home.yaml", RECOMMENDER_FILE.replace("endcap/v2", "endcap/v3") + "sede: 1\n")
    assert keys(Path("home.yaml")) == ["home.yaml apiVersion", "shops/toys.yaml kind", "shops/toys.yaml windw"]


def test_own_classes_are_checked_beside_other_mistakes_and_those_that_are_not_listed_are_not_imported() -> None:
    path = "tests.preprocessing.stand_ins:DropGlances"
    documents = copy.deepcopy({"shop": SHOP, "recommender": RECOMMENDER})
    spec = documents["recommender"]
    spec["classes"] += [path, 5]
    spec["preprocessing"] = [{"class": path, "parameters": {"ms": "many", "mss": 1}}, {"class": "antigravity:Own"}]
    spec["batch"]["k"] = 0
    with pytest.raises(SpecError) as caught:
        load_documents(spec, documents["shop"])
    assert {problem.key for problem in caught.value.problems} == {
        "classes[3]",
        "preprocessing[0].parameters.ms",
        "preprocessing[0].parameters.mss",
        "batch.k",
    }
    assert "antigravity" not in sys.modules


def test_opening_a_project_names_the_mistakes_of_its_specs_and_its_places_at_once(specs: Path) -> None:
    write(specs / "home.yaml", RECOMMENDER_FILE + "sede: 1\n")
    write(
        specs / "environments.yaml",
        "apiVersion: endcap/v2\nkind: Environments\nenvironments: {default: {online: 'redis://${ENDCAP_NOT_SET}'}}\n",
    )
    with pytest.raises(SpecError) as caught:
        open_project(specs / "home.yaml")
    assert [problem.key for problem in caught.value.problems] == ["sede", "environments.default.online"]


def test_what_several_keys_must_have_to_do_with_each_other_is_told_by_checks_alone() -> None:
    """A validator that is given other keys does not run where its own key or theirs are wrong."""
    for module in sorted((Path(endcap.__file__).parent / "spec").glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                text = ast.unparse(node)
                several = "info: ValidationInfo" in text or "@model_validator" in text
                assert module.name == "base.py" or not (several and "raise" in text), f"{module.name}: {node.name}"
