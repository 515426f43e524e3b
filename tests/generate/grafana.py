"""Grafana's dashboard model, as far as the chart's dashboards use it: panels laid out in rows of 24 columns.

The JSON is that of Grafana's schema, of which `tests/monitoring/schemas` has a copy that a test holds against it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
COLUMNS = 24
SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
RED, AMBER, GREEN = "red", "orange", "green"


@dataclass(frozen=True)
class Query:
    """An expression in PromQL. legend: names its series, labels in double braces. instant: only the newest value."""

    expression: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel.

    kind: `timeseries`, `stat` or `table`. unit: Grafana's name of a unit, such as `s` or `percentunit`. steps: colours,
    each with the value from which on it holds. stack: whether series lie on each other. columns: for a table, labels to
    show and their titles; a value is titled by `value`.
    """

    title: str
    queries: Sequence[Query]
    says: str = ""
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),)
    stack: bool = False
    most: float | None = None
    columns: dict[str, str] = field(default_factory=dict)
    value: str = ""

    def to_json(self, number: int, x: int, y: int) -> Json:
        targets = [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "instant": query.instant or self.kind == "table",
                "range": not (query.instant or self.kind == "table"),
                "format": "table" if self.kind == "table" else "time_series",
            }
            for place, query in enumerate(self.queries)
        ]
        thresholds = {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in self.steps],
        }
        defaults: Json = {"unit": self.unit, "thresholds": thresholds, "custom": self._custom()}
        if self.most is not None:
            defaults |= {"min": 0, "max": self.most}
        panel: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.says,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": targets,
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": self._options(),
        }
        if self.kind == "table":
            panel["transformations"] = self._transformations()
        return panel

    def _custom(self) -> Json:
        if self.kind != "timeseries":
            return {}
        stacking = {"mode": "normal" if self.stack else "none", "group": "A"}
        return {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if self.stack else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": stacking,
            "thresholdsStyle": {"mode": "line" if len(self.steps) > 1 else "off"},
        }

    def _options(self) -> Json:
        if self.kind == "timeseries":
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        if self.kind == "table":
            return {"frameIndex": 0, "showHeader": True, "cellHeight": "sm"}
        reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {
            "reduceOptions": reduce,
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "auto",
            "wideLayout": True,
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
        }

    def _transformations(self) -> list[Json]:
        names = {**self.columns, "Value": self.value} if self.value else dict(self.columns)
        shown = {"include": {"names": list(names)}}
        order = {"indexByName": {name: place for place, name in enumerate(names)}, "renameByName": names}
        return [
            {"id": "filterFieldsByName", "options": shown},
            {"id": "organize", "options": {"excludeByName": {}, **order}},
        ]


@dataclass(frozen=True)
class Dashboard:
    """A page. rows: a title and panels each. variables: name and the query that lists its values."""

    name: str
    title: str
    says: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    variables: Sequence[tuple[str, str]]
    since: str = "now-6h"

    def to_text(self) -> str:
        """The dashboard as a file."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    def to_json(self) -> Json:
        return {
            "uid": f"endcap-{self.name}",
            "title": f"Endcap / {self.title}",
            "description": self.says,
            "tags": ["endcap"],
            "schemaVersion": 39,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "utc",
            "refresh": "30s",
            "time": {"from": self.since, "to": "now"},
            "annotations": {"list": [_alerts()]},
            "templating": {"list": [_data_source(), *(_variable(*entry) for entry in self.variables)]},
            "links": [
                {
                    "type": "dashboards",
                    "title": "Endcap",
                    "tags": ["endcap"],
                    "icon": "external link",
                    "tooltip": "",
                    "asDropdown": True,
                    "includeVars": True,
                    "keepTime": True,
                    "targetBlank": False,
                }
            ],
            "panels": self._panels(),
        }

    def _panels(self) -> list[Json]:
        panels: list[Json] = []
        y = 0
        for title, row in self.rows:
            place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            panels.append(
                {
                    "id": len(panels) + 1,
                    "type": "row",
                    "title": title,
                    "collapsed": False,
                    "gridPos": place,
                    "panels": [],
                }
            )
            x, y, tallest = 0, y + 1, 0
            for panel in row:
                if x + panel.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                panels.append(panel.to_json(len(panels) + 1, x, y))
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest
        return panels


def _data_source() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "refresh": 1,
        "regex": "",
        "multi": False,
        "includeAll": False,
        "skipUrlSync": False,
    }


def _variable(name: str, query: str) -> Json:
    """A choice among the values of a label; all of them at first."""
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "definition": query,
        "hide": 0,
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "skipUrlSync": False,
    }


def _alerts() -> Json:
    """Firing alerts of Endcap as marks in each panel."""
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": RED,
        "expr": 'ALERTS{alertname=~"Endcap.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "step": "60s",
    }
