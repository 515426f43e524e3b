"""PyArrow does without pandas until somebody imports it, and knows its values then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STEPS = """
import importlib.util
import sys
from endcap.events import ingest
from endcap.features import build
from endcap.spec.shop import Shop
from endcap.store import open_store

shop, store = Shop.model_validate_json(sys.argv[1]), open_store(sys.argv[2])
build(shop, ingest(shop, store), store)
assert importlib.util.find_spec("pandas")
assert "pandas" not in sys.modules

import pandas as pd
import pyarrow as pa

assert pa.array(pd.Series([1.0, float("nan")])).null_count == 1
assert pa.table({"item": ["cup"]}).to_pandas()["item"].tolist() == ["cup"]
"""
SHOP = """{
  "apiVersion": "endcap/v2", "kind": "Shop", "name": "tableware",
  "events": {"sources": [{"path": "%s"}], "columns": {"session": "session", "customer": "customer"}},
  "items": {"sources": [{"path": "%s"}], "categorical": ["kind"]},
  "features": {"events": [{"name": "gap", "kind": "gap"}]}
}"""


def test_a_log_becomes_a_dataset_without_pandas(tmp_path: Path) -> None:
    log, items = tmp_path / "log.csv", tmp_path / "items.csv"
    log.write_text(
        "session,customer,item,time\n"
        "s1,anna,cup,2026-03-01T09:00:00Z\ns1,anna,plate,2026-03-01T09:01:00Z\ns2,ben,cup,2026-03-02T20:00:00Z\n"
    )
    items.write_text("item,kind\ncup,drink\nplate,food\n")
    command = [sys.executable, "-c", STEPS, SHOP % (log, items), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
