"""Run the measurements: ``python -m tests.bench [NAME…]``.

Each module of this folder has a `measure()` that returns a list of results; they go to build/bench/<name>.json and into
a table. A result: name, value, unit, floor (or None), lower_is_better, how.

``python -m tests.bench ingest --against PATH`` compares with the checkout of another commit instead: see `_pairs`, and
`access` for what access costs a request.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

FOLDER = Path("build/bench")


def main(names: list[str], against: Path | None = None) -> int:
    there = sorted(
        module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if not module.name.startswith("_")
    )
    unknown = set(names) - set(there)
    if unknown:
        print(f"no measurement {', '.join(sorted(unknown))}; there are: {', '.join(there)}", file=sys.stderr)
        return 2
    if against is not None and names not in (["ingest"], ["access"]):
        print("--against compares ingest or access: python -m tests.bench ingest --against PATH", file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    missed = 0
    print(f"{'measurement':<52} {'value':>14} {'floor':>12}  unit")
    for name in names or there:
        results: list[dict[str, Any]]
        if against is None:
            results = importlib.import_module(f"tests.bench.{name}").measure()
        else:
            module = "_pairs" if names == ["ingest"] else name
            results = importlib.import_module(f"tests.bench.{module}").compare(against)
        (FOLDER / f"{name}{'' if against is None else '_pairs'}.json").write_text(json.dumps(results, indent=1) + "\n")
        for result in results:
            floor, value = result["floor"], result["value"]
            met = floor is None or (value <= floor if result["lower_is_better"] else value >= floor)
            missed += not met
            shown = "" if floor is None else f"{floor:,.4g}"
            print(f"{result['name']:<52} {value:>14,.4f} {shown:>12}  {result['unit']}{'' if met else '   MISSED'}")
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--against", type=Path, metavar="PATH")
    arguments = parser.parse_args()
    sys.exit(main(arguments.names, arguments.against))
