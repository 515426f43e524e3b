"""What `python -m endcap_serving.intake` does on a machine whose clock is wrong: by SECONDS, the first argument."""

from __future__ import annotations

import sys
import time


def main(words: list[str]) -> int:
    skew, seconds, nanoseconds = float(words[0]), time.time, time.time_ns
    time.time = lambda: seconds() + skew
    time.time_ns = lambda: nanoseconds() + int(skew * 1e9)
    from endcap_serving.intake.__main__ import main as intake

    return intake(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
