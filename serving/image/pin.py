"""Resolve the digests of the images that images.json names: ``python serving/image/pin.py`` (`make pin`).

Each is asked of its registry by its tag, with whichever of docker, crane and skopeo answers; a digest that none of
them resolved is never written, and unless all are resolved the file stays as it is.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

IMAGES = Path(__file__).with_name("images.json")
TOOLS = {
    "docker": ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}"],
    "crane": ["crane", "digest"],
    "skopeo": ["skopeo", "inspect", "--format", "{{.Digest}}"],
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def resolve(image: str) -> str:
    """The digest of `name:tag` at its registry. Raises LookupError with what each tool said."""
    reply = []
    for tool, command in TOOLS.items():
        if shutil.which(tool) is None:
            reply.append(f"{tool}: not installed")
            continue
        place = f"docker://{image}" if tool == "skopeo" else image
        run = subprocess.run([*command, place], capture_output=True, text=True, timeout=120, check=False)
        digest = run.stdout.strip()
        if run.returncode == 0 and _DIGEST.fullmatch(digest):
            return digest
        reply.append(f"{tool}: {(run.stderr or run.stdout).strip() or f'ended with status {run.returncode}'}")
    lines = "\n".join(f"  {line}" for line in reply)
    raise LookupError(f"no digest of {image} was resolved; install one of the tools, or reach its registry:\n{lines}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the digests of base images.")
    parser.add_argument("file", nargs="?", type=Path, default=IMAGES)
    file = parser.parse_args().file
    document = json.loads(file.read_text())
    try:
        for name, variable in document["variable"].items():
            image = variable["default"].partition("@")[0]
            variable["default"] = f"{image}@{resolve(image)}"
            print(f"{name}  {variable['default']}")
    except LookupError as error:
        print(f"{file} stays as it is: {error}", file=sys.stderr)
        return 1
    file.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
