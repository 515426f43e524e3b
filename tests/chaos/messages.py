"""Messages to a receiver in trouble, from processes of which one may be killed: all arrive, in their order.

Two processes send by turns to two receivers. One of these hangs, or answers 500, or breaks connections for a while, or
the first process is killed while it delivers. A third process delivers what is left. The limit of a try and the hold on
the outbox are shorter than usual, in the same proportion, so that an attempt takes seconds.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from endcap.messages import Message, Messenger, outbox, webhook
from endcap.messages.addresses import VARIABLE
from endcap.messages.formats import ID_HEADER
from endcap.messages.messenger import CLOSE_WITHIN
from endcap.store import open_store
from tests.chaos.attack import Attack, Seen, Stage, wait_until
from tests.messages.receiver import Receiver

KINDS = ("a webhook that hangs", "a webhook that answers 500", "a kill in a delivery")
EACH = 8
"""Messages of each process."""
TRY, HOLD = 1.5, timedelta(seconds=9)
"""For 10 and 60 seconds."""
LEFT_WITHIN = 60.0
"""Seconds that the third process may take."""
SENT_WITHIN = 0.5
"""Seconds that half of the calls to send may take, which write into the store and wait for no receiver."""
SLACK = 1.0


@dataclass(frozen=True)
class Sent(Seen):
    """Messages of one attempt.

    acknowledged: ids whose sending returned, by process. accepted: ids as each receiver accepted them. usual, slowest:
    seconds of the calls to send, their median and the slowest. ended: of the slowest end. again: whether a receiver may
    get a message twice.
    """

    acknowledged: tuple[tuple[str, ...], ...] = (("0/0", "0/1"), ("1/0",))
    accepted: tuple[tuple[str, ...], ...] = (("0/0", "1/0", "0/1"), ("0/0", "1/0", "0/1"))
    usual: float = 0.1
    slowest: float = 0.1
    ended: float = 0.1
    again: bool = False


def attempts(stage: Stage) -> Iterator[Sent]:
    for number in stage.numbers:
        yield _attempt(stage.place(str(number)), number, KINDS[number % len(KINDS)], stage.chance(number))


def _attempt(folder: Path, number: int, kind: str, chance: random.Random) -> Sent:
    is_troubled = kind != KINDS[2]
    with Receiver() as well, Receiver() as ill, ExitStack() as stack:
        if is_troubled:
            ill.hang = 2 * TRY if kind == KINDS[0] else 0.0
            ill.choose = lambda tries: (500, {})
        environment = {**os.environ, VARIABLE: f"json+{ill.url} json+{well.url}"}
        words = [sys.executable, "-m", "tests.chaos.messages", str(folder / "store"), str(chance.random())]
        several = []
        for name in ("0", "1"):
            with (folder / name).open("w") as log:
                process = subprocess.Popen([*words, name], stdout=log, env=environment)
            stack.callback(process.wait)
            stack.callback(process.kill)
            several.append(process)
        if is_troubled:
            time.sleep(chance.uniform(1.5, 4))
            ill.hang, ill.choose = 0.0, lambda tries: (200, {})
        else:
            # In a delivery, between it and its note, or between two.
            tries = chance.randrange(1, 2 * EACH)
            wait_until(lambda: len(ill.tries) >= tries, LEFT_WITHIN, pause=0.001)
            time.sleep(chance.uniform(0, 0.05))
            several[0].kill()
        for process in several:
            process.wait()
        with (folder / "rest").open("w") as log:
            subprocess.run([*words, "rest"], stdout=log, env=environment, check=True)
        accepted = tuple(tuple(headers[ID_HEADER] for headers in each.headers) for each in (ill, well))
    lines = [_read_lines(folder / name) for name in ("0", "1")]
    acknowledged = tuple(tuple(str(line["id"]) for line in each if "id" in line) for each in lines)
    sent = [line["sent"] for each in lines for line in each if "sent" in line]
    ended = max((line["ended"] for each in lines for line in each if "ended" in line), default=0.0)
    return Sent(number, kind, acknowledged, accepted, median(sent), max(sent), ended, kind != KINDS[1])


def _read_lines(log: Path) -> list[dict[str, Any]]:
    """Read what a process wrote. One that was killed may have left half a line."""
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def judge(seen: Sent) -> Iterator[str]:
    for accepted in seen.accepted:
        first = list(dict.fromkeys(accepted))
        for ids in seen.acknowledged:
            if lost := sorted(set(ids) - set(first)):
                yield f"{len(lost)} messages are lost: {lost}"
            elif [each for each in first if each in ids] != list(ids):
                yield f"messages came out of their order: {accepted}"
        if not seen.again and (twice := [each for each, times in Counter(accepted).items() if times > 1]):
            yield f"messages came twice: {twice}"
    if seen.usual > SENT_WITHIN:
        yield f"sending took {seen.usual:.1f} s in the median"
    for what, seconds in (
        ("a call to send took", seen.slowest),
        ("a process ended later because of messages by", seen.ended),
    ):
        if seconds > CLOSE_WITHIN + SLACK:
            yield f"{what} {seconds:.1f} s"


def main(store_url: str, seed: str, name: str) -> None:
    """Be one of the processes: send, or deliver what is left."""
    webhook.POST_WITHIN, outbox.LEASE = TRY, HOLD
    messenger, chance = Messenger(open_store(store_url)), random.Random(f"{seed}/{name}")
    messenger.start()
    for number in range(EACH if name != "rest" else 0):
        message = Message(f"{name}/{number}", "rollout.raised", datetime.now(UTC), "info", "a title", "a text", "home")
        begun = time.monotonic()
        messenger.send(message)
        print(json.dumps({"id": message.id, "sent": time.monotonic() - begun}), flush=True)
        time.sleep(chance.uniform(0, 0.4))
    begun = time.monotonic()
    messenger.close(LEFT_WITHIN if name == "rest" else CLOSE_WITHIN)
    print(json.dumps({"ended": time.monotonic() - begun}), flush=True)


ATTACK = Attack("messages", "messages to webhooks in trouble, and a kill", attempts, judge, full=24, short=3, limit=600)

if __name__ == "__main__":
    main(*sys.argv[1:])
