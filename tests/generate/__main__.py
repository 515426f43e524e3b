"""Write the repository's generated files: ``python -m tests.generate``, or ``make compile``.

With ``--check`` it writes nothing, and fails if a file differs from what its sources give.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.generate.files import ROOT, find_stale, generate, write


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.generate", description="Write the generated files.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not up to date")
    check = parser.parse_args().check
    os.chdir(ROOT)  # specs and environments are found from the current folder
    texts = generate()
    stale = find_stale(texts)
    names = ", ".join(str(file) for file in stale)
    if not stale:
        print("all generated files are up to date")
    elif check:
        print(f"not up to date: {names}; run `make compile` and check the result in", file=sys.stderr)
        return 1
    else:
        write(texts, stale)
        print(f"wrote {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
