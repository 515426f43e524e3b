"""Every attack can fail: what must not happen is planted, and its judge says so; what is right passes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import UserError
from tests.chaos import (
    disks,
    floods,
    grammar,
    hostile,
    intake_frames,
    intake_kills,
    messages,
    races,
    redis_faults,
    registrations,
    request,
    sources,
    specs,
    step_kills,
    stopped,
    tampered,
)
from tests.chaos.attack import Attack, Seen, Stage
from tests.chaos.catalogue import ATTACKS
from tests.chaos.child import call
from tests.chaos.single import make
from tests.chaos.table import table
from tests.chaos.wire import send

MIB = 2**20
RIGHT: dict[str, list[Seen]] = {
    "hostile": [
        hostile.Sent(0, "body leaf", "gateway", 400),
        hostile.Memory(-1, "memory", "envoy", 100.0 * MIB, 104.0 * MIB),
        hostile.Ordinary(-1, "ordinary", ((200, 100),), listed=0.01),
        hostile.Lives(-1, "process", "envoy"),
    ],
    "floods": [floods.Flooded(0, "heavy clients", flood=((200, 5), (429, 9)))],
    "intake-kills": [
        intake_kills.Killed(0, "kill", 100),
        intake_kills.Kept(-1, "records", frozenset("ab"), frozenset("abc"), ("a", "b", "c"), 1, (200,)),
    ],
    "intake-frames": [intake_frames.Damaged(0, "a turned bit")],
    "redis": [redis_faults.Fault(0, redis_faults.ONE_BAD_KEY), redis_faults.Events(-1, "events")],
    "races": [races.Pair(0, "pair in a folder")],
    "registrations": [registrations.Registered(0, "one package", said=("1", "1", "1"))],
    "disks": [disks.Full(0, "intake")],
    "stopped": [stopped.Hit(0, "SIGSTOP stable")],
    "tampered": [tampered.Tampered(0, "a name")],
    "specs": [specs.Read(0, "aliases")],
    "sources": [sources.Ingested(0, "a FIFO")],
    "messages": [messages.Sent(0, messages.KINDS[1]), messages.Sent(2, messages.KINDS[2], again=True)],
    "step-kills": [step_kills.Killed(0, "kill in train"), step_kills.Ended(0, "whole run", compared=20)],
}
"""What each attack sees where all is right."""
WRONG: list[tuple[str, int, dict[str, Any]]] = [
    ("hostile", 0, {"status": 500}),
    ("hostile", 0, {"outcome": "late"}),
    ("hostile", 0, {"outcome": "refused"}),
    ("hostile", 1, {"last": 106.0 * MIB}),
    ("hostile", 1, {"first": 0.0}),
    ("hostile", 2, {"statuses": ((200, 99), (503, 1))}),
    ("hostile", 2, {"wrong": 1}),
    ("hostile", 2, {"listed": 0.5}),
    ("hostile", 2, {"after": False}),
    ("hostile", 3, {"same": False}),
    ("messages", 0, {"accepted": (("0/0", "1/0"), ("0/0", "1/0", "0/1"))}),
    ("messages", 0, {"accepted": (("0/1", "1/0", "0/0"), ("0/0", "1/0", "0/1"))}),
    ("messages", 0, {"accepted": (("0/0", "1/0", "0/1", "0/1"), ("0/0", "1/0", "0/1"))}),
    ("messages", 1, {"accepted": (("0/0", "0/0", "1/0"), ("0/0", "1/0", "0/1"))}),
    ("messages", 0, {"usual": 0.7}),
    ("messages", 0, {"slowest": 5.0}),
    ("messages", 0, {"ended": 9.0}),
    ("floods", 0, {"ordinary": ((0, 1), (200, 9))}),
    ("floods", 0, {"wrong": 1}),
    ("floods", 0, {"listed": 0.7}),
    ("floods", 0, {"slowest": 9.0}),
    ("floods", 0, {"flood": ((500, 1),)}),
    ("floods", 0, {"well": False}),
    ("intake-kills", 0, {"acknowledged": 0}),
    ("intake-kills", 1, {"there": ("a", "c")}),
    ("intake-kills", 1, {"there": ("a", "b", "c", "c")}),
    ("intake-kills", 1, {"there": ("a", "b", "c", "d")}),
    ("intake-kills", 1, {"accepted_again": 2}),
    ("intake-kills", 1, {"statuses": (200, 500)}),
    ("intake-kills", 1, {"temporary": ("out/a.draft",)}),
    ("intake-frames", 0, {"started": False}),
    ("intake-frames", 0, {"lost": 1}),
    ("intake-frames", 0, {"twice": 1}),
    ("intake-frames", 0, {"kept": False}),
    ("intake-frames", 0, {"took": 503}),
    ("redis", 0, {"statuses": (200, 500)}),
    ("redis", 0, {"variants": ("fallback", "stable")}),
    ("redis", 0, {"slowest": 3.0}),
    ("redis", 0, {"degraded": 1}),
    ("redis", 0, {"took": (200, 503)}),
    ("redis", 0, {"well": False}),
    ("redis", 0, {"follows": False}),
    ("redis", 1, {"lost": 1}),
    ("redis", 1, {"twice": 1}),
    ("redis", 1, {"temporary": ("a.draft",)}),
    ("races", 0, {"there": (True, False)}),
    ("races", 0, {"acknowledged": (False, True), "refused": ("store.cannot-write",)}),
    ("registrations", 0, {"there": (("champion",), ())}),
    ("registrations", 0, {"there": ((),)}),
    ("registrations", 0, {"said": ("1", "1", "registry.unavailable")}),
    ("disks", 0, {"refused": "OSError"}),
    ("disks", 0, {"lost": 1}),
    ("disks", 0, {"temporary": (".a.json.1-2",)}),
    ("disks", 0, {"supervised": False}),
    ("disks", 0, {"served": False}),
    ("disks", 0, {"goes_on": False}),
    ("stopped", 0, {"recovered": None}),
    ("stopped", 0, {"supervised": False}),
    ("stopped", 0, {"statuses": (200, 500)}),
    ("tampered", 0, {"how": "raised"}),
    ("tampered", 0, {"how": "late"}),
    ("tampered", 0, {"how": "returned", "same": False}),
    ("tampered", 0, {"outside": ("/tmp/mark-0",)}),
    ("specs", 0, {"how": "died"}),
    ("specs", 0, {"seconds": 9.0}),
    ("sources", 0, {"how": "late"}),
    ("sources", 0, {"temporary": ("store/.drafts/a@1@b",)}),
    ("step-kills", 0, {"reached": False}),
    ("step-kills", 0, {"status": 1}),
    ("step-kills", 1, {"status": 1}),
    ("step-kills", 1, {"differing": ("packages/corner/a/model/tensors.safetensors",)}),
    ("step-kills", 1, {"compared": 0}),
    ("step-kills", 1, {"versions": (("champion",), ())}),
    ("step-kills", 1, {"temporary": (".drafts/host@1@a",)}),
]
"""What must not happen: of which attack, which of the above, and what of it is otherwise."""


def test_what_is_right_passes_and_every_attack_has_a_planted_wrong() -> None:
    assert RIGHT.keys() == ATTACKS.keys() == {name for name, _, _ in WRONG}
    for name, several in RIGHT.items():
        for seen in several:
            assert list(ATTACKS[name].judge(seen)) == []


@pytest.mark.parametrize(("name", "which", "otherwise"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_said(name: str, which: int, otherwise: dict[str, Any]) -> None:
    wrong = dataclasses.replace(RIGHT[name][which], **otherwise)
    (text,) = ATTACKS[name].judge(wrong)
    assert text


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server on loopback that says the same to everyone, and nothing where that is empty."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1]
        for each in held:
            each.close()


@pytest.mark.slow
def test_a_server_that_answers_500_or_nothing_is_caught() -> None:
    plain = request.Hostile("body", (request.post("/", b"{}"),))
    two = request.Hostile("http2", (request.PREFACE,), then="half")
    for answer, given, statuses, outcome in (
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\n{}", plain, (500,), "answered"),
        (b"HTTP/1.1 400 No\r\ncontent-length: 2\r\n\r\n{}", plain, (400,), "answered"),
        (b"", plain, (), "late"),
        (b"\0\0\x01\x01\x04\0\0\0\x01\x8e", two, (500,), "late"),
    ):
        with answering(answer) as port:
            answered = send("127.0.0.1", port, given, 1.5 if outcome == "late" else 10.0)
            assert (answered.statuses, answered.outcome) == (statuses, outcome)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert send("127.0.0.1", port, plain, 1.0).outcome == "refused"


def test_a_call_that_hangs_eats_memory_or_dies_is_caught() -> None:
    def refuse() -> None:
        raise UserError("no", code="spec.wrong")

    limit, memory = 5.0, 256 * MIB
    assert call(lambda: 7, limit, memory).value == 7
    assert call(refuse, limit, memory).value == "spec.wrong"
    assert call(lambda: 1 // 0, limit, memory).how == "raised"
    assert call(lambda: bytearray(1 << 32), limit, memory).value.startswith("MemoryError")
    assert call(lambda: time.sleep(60), 0.3, memory).how == "late"
    assert call(lambda: os.kill(os.getpid(), 9), limit, memory).how == "died"


def test_a_violation_is_counted_told_and_says_how_it_is_repeated(tmp_path: Path) -> None:
    def attempts(stage: Stage) -> Iterator[Seen]:
        for number in stage.numbers:
            yield Seen(number, "odd" if stage.chance(number).random() < 0.5 else "even")
        raise ZeroDivisionError

    def judge(seen: Seen) -> Iterator[str]:
        if seen.kind == "odd":
            yield "it is odd"

    attack: Attack[Seen] = Attack("planted", "planted", attempts, judge, 20, 5, 10)
    lines: list[str] = []
    said = make(attack, Stage("planted", tmp_path, 3, 20, 0, False, None, lines.append))
    odd = [each for each in said["violations"] if each["kind"] == "odd"]
    assert 0 < len(odd) == said["kinds"]["odd"] < 20
    assert said["wrong"] == len(odd) + 1, "that it broke off is one"
    assert odd[0]["again"] == f"python -m tests.chaos --only planted --seed 3 --at {odd[0]['attempt']}"
    assert any(odd[0]["again"] in line for line in lines)
    again = make(attack, Stage("planted", tmp_path, 3, 20, 0, False, odd[0]["attempt"], lines.append))
    assert again["violations"][0]["text"] == "it is odd"
    row = table([{**said, "not_run": ""}, {**said, "not_run": "no mount"}]).splitlines()
    assert f"| 21 | {said['wrong']} |" in row[2]
    assert "not run: no mount" in row[3]


def test_the_same_seed_makes_the_same_requests_and_each_kind_is_among_them(tmp_path: Path) -> None:
    def made(seed: int) -> list[request.Hostile]:
        stage = Stage("hostile", tmp_path, seed, 1000, 0, True)
        return [grammar.made(stage.chance(number)) for number in stage.numbers]

    first = made(1)
    assert first == made(1) != made(2)
    assert len({each.kind for each in first}) >= 12
