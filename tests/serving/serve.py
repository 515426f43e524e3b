"""What `endcap serve` does: ``python -m tests.serving.serve STORE NAME``; prints the address when it is ready."""

from __future__ import annotations

import sys

from endcap.store import open_store
from endcap_serving.supervisor import serve

if __name__ == "__main__":
    serve(
        open_store(sys.argv[1]),
        sys.argv[2],
        port=0,
        ready=lambda address: print(address, flush=True),
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
