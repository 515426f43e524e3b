"""Attacks on a gateway's pod, repeatable by a seed: ``python -m tests.serving.pod_attacks [--seed N] [--count N]``.

The xDS service is killed or stopped, and addresses of predictors fall silent, while shoppers ask without a pause. Each
attempt is made out of a source of chance of its own; `find_faults` names what must not have happened.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from endcap_serving.gateway.routes import GatewaySettings
from endcap_serving.local.predictors import find_free_port
from tests.serving.api_server import ApiServer, inference_service
from tests.serving.backends import Backend
from tests.serving.black_hole import BlackHole
from tests.serving.name_server import NameServer
from tests.serving.pod import Gateway, Shoppers, wait_for

PORT = find_free_port()
ADDRESSES = ("127.0.10.1", "127.0.10.2", "127.0.10.3")
TIMEOUT = 1.2
BOUND = 60.0
Chance = Callable[[int], random.Random]


@dataclass(frozen=True)
class AttackOutcome:
    """What was met in one attempt. statuses: of rankings, by their count; ready: of the pod's readiness probe; slowest:
    a ranking's seconds; recovered: seconds until another xDS service ran, or the silent address was passed over (None:
    not within the bound)."""

    number: int
    kind: str
    statuses: dict[int, int]
    ready: dict[int, int]
    slowest: float
    recovered: float | None


def find_faults(met: AttackOutcome) -> Iterator[str]:
    """What must not have happened."""
    if set(met.statuses) != {200}:
        yield f"shoppers were answered {met.statuses}"
    if set(met.ready) != {200}:
        yield f"the pod was not ready: {met.ready}"
    if met.recovered is None:
        yield f"not as before within {BOUND:.0f} s"


def kill_xds_services(folder: Path, numbers: Iterable[int], chance: Chance) -> Iterator[AttackOutcome]:
    """The xDS service is killed, or stopped, at some moment."""
    with run_pod(folder) as (gate, api, _):
        api.put(inference_service("shoes", port=PORT, terms=GatewaySettings(TIMEOUT, 20, ("p1",))))
        wait_for(lambda: gate.ask("shoes").status_code == 200, "shoes are served", BOUND)
        for number in numbers:
            draw = chance(number)
            how = draw.choice([signal.SIGKILL, signal.SIGSTOP])
            with Shoppers(gate, "shoes") as shoppers:
                time.sleep(draw.uniform(0, 1))
                gone = gate.signal_xds(how)
                recovered = measure_until(lambda gone=gone: gate.xds() not in (None, gone) and gate.xds_is_well())
            yield summarise_attack(number, f"{how.name} of the xDS service", shoppers, recovered)


def silence_addresses(folder: Path, numbers: Iterable[int], chance: Chance) -> Iterator[AttackOutcome]:
    """Some of the three addresses of a recommender are silent; which, and how, is drawn."""
    with run_pod(folder) as (gate, api, names):
        for number in numbers:
            draw = chance(number)
            name, dead = f"shop-{number}", draw.sample(ADDRESSES, draw.randint(1, 3))
            kind, how = draw.choice([("no connection", open_black_hole), ("no answer", start_hanging_backend)])
            terms = GatewaySettings(TIMEOUT, 20, ("p1", "p2"))
            with ExitStack() as stack:
                for host in ADDRESSES:
                    server = how(host) if host in dead else Backend(host, host=host, port=PORT)
                    stack.enter_context(server)
                    stack.callback(server.shutdown if isinstance(server, Backend) else int)
                names.addresses[f"{name}-v1-predictor.shop.svc"] = list(ADDRESSES)
                api.put(inference_service(name, port=PORT, terms=terms))
                wait_for(lambda name=name: gate.shares(name) != {}, "it is routed", BOUND)
                wait_for(lambda name=name: gate.addresses(name) == 3, "its addresses are known", BOUND)
                with Shoppers(gate, name) as shoppers:
                    recovered = measure_until(lambda name=name, dead=dead: gate.passed_over(name) == len(dead))
                api.delete(name)
            yield summarise_attack(number, f"{len(dead)} of 3 addresses: {kind}", shoppers, recovered)


def open_black_hole(host: str) -> BlackHole:
    return BlackHole(host, PORT)


def start_hanging_backend(host: str) -> Backend:
    return Backend(host, delay=30.0, host=host, port=PORT)


@contextmanager
def run_pod(folder: Path) -> Iterator[tuple[Gateway, ApiServer, NameServer]]:
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        api, names = ApiServer(), stack.enter_context(NameServer())
        stack.callback(names.shutdown)
        stack.enter_context(start_good_backend(names))
        gate = Gateway(folder, api.kubeconfig(folder / "kubeconfig"), "shop", stack, names.port)
        yield gate.start(), api, names


@contextmanager
def start_good_backend(names: NameServer) -> Iterator[None]:
    host = "127.0.10.9"
    names.addresses["shoes-v1-predictor.shop.svc"] = [host]
    with Backend("well", host=host, port=PORT) as well:
        yield
        well.shutdown()


def measure_until(met: Callable[[], bool]) -> float | None:
    begun = time.monotonic()
    while not met():
        if time.monotonic() - begun > BOUND:
            return None
        time.sleep(0.05)
    return round(time.monotonic() - begun, 2)


def summarise_attack(number: int, kind: str, shoppers: Shoppers, recovered: float | None) -> AttackOutcome:
    ready = Counter(status for path, status, _ in shoppers.answers if path == "/ready")
    rankings = [(status, seconds) for path, status, seconds in shoppers.answers if path != "/ready"]
    slowest = max((seconds for _, seconds in rankings), default=0.0)
    return AttackOutcome(number, kind, dict(Counter(status for status, _ in rankings)), dict(ready), slowest, recovered)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--count", type=int, default=20, help="attempts of each kind")
    given = parser.parse_args()
    faults = 0
    for attack in (kill_xds_services, silence_addresses):
        kinds: dict[str, list[AttackOutcome]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for met in attack(Path(folder), range(given.count), lambda number: random.Random(f"{given.seed}/{number}")):
                kinds.setdefault(met.kind, []).append(met)
                for fault in find_faults(met):
                    faults += 1
                    print(f"attempt {met.number}, {met.kind}: {fault}", flush=True)
        for kind, all_met in sorted(kinds.items()):
            asked = sum((Counter(met.statuses) for met in all_met), Counter())
            slowest = max(met.slowest for met in all_met)
            longest = max(met.recovered or BOUND for met in all_met)
            print(f"{kind}: {len(all_met)} times, rankings {dict(asked)}, slowest {slowest:.2f} s, over in {longest} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
