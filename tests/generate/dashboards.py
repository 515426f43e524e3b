"""The chart's dashboards, as files."""

from __future__ import annotations

from pathlib import Path

from tests.generate.serving_dashboard import SERVING
from tests.generate.store_dashboards import BATCH, ROLLOUTS, VERSIONS
from tests.generate.traffic_dashboards import GATEWAY, INTAKE

FOLDER = Path("charts/endcap/monitoring/dashboards")
PAGES = (SERVING, GATEWAY, INTAKE, BATCH, ROLLOUTS, VERSIONS)


def dashboards() -> dict[Path, str]:
    """The text of each dashboard, by its file."""
    return {FOLDER / f"{page.name}.json": page.to_text() for page in PAGES}
