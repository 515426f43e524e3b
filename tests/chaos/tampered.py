"""Packages and manifests that somebody has changed: each is refused by an error of Endcap's, or answers as before.

No byte outside of the store's own places is written, nothing hangs, and memory stays bounded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from endcap.registry.package import load_package
from endcap.store import open_store
from tests.chaos.attack import Attack, Seen, Stage
from tests.chaos.bodies import VALUES, leaves, put
from tests.chaos.child import Outcome, call
from tests.chaos.stack import CANARY, STABLE, shop_in
from tests.serving.conftest import Shop
from tests.store.servers import moto

LIMIT, MEMORY = 15.0, 2 << 30
BUCKET = "tampered"
DAMAGES = (
    "a turned bit",
    "a cut file",
    "a file gone",
    "other content, rightly summed",
    "a wrong leaf",
    "a name",
    "a link",
)
OUTSIDE = b"written outside"
SUMMED = ("other content", "a wrong leaf")
NAMES = (
    "/tmp/{mark}",
    "../{mark}",
    "../../../{mark}",
    "a/../../{mark}",
    "{folder}/{mark}",
    "./{mark}",
    "a\x00{mark}",
    "",
    "..",
    "a//b",
)
TEXTS = (b"[]", b"{}", b"null", b"7", b'"text"', b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"", b"NaN")


@dataclass(frozen=True)
class Tampered(Seen):
    """An artifact that was changed, and what came of its use. how: see `Outcome`; same: the answer is the one of
    before; outside: what was written where nothing should be."""

    how: str = "refused"
    said: str = ""
    same: bool = True
    outside: tuple[str, ...] = ()


def attempts(stage: Stage) -> Iterator[Tampered]:
    shop = shop_in(stage.place("store"))
    expected = {name: _answer(shop.store.root, address) for name, address in shop.packages.items()}
    with moto() as server:
        os.environ.update(server.environment() | {"ENDCAP_CACHE": str(stage.folder / "cache")})
        client = server.client()
        client.make_bucket(BUCKET)
        for number in stage.numbers:
            chance = stage.chance(number)
            damage = DAMAGES[number % len(DAMAGES)]
            model = chance.choice([STABLE, CANARY])
            place = stage.place(f"tampered-{number}")
            root, address = _copy(shop, model, place)
            _tamper(Path(address), damage, chance, f"mark-{number}", place)
            kind = f"{damage} in a folder"
            if damage == "a name" or (damage != "a link" and number % 3 == 0):
                kind, name = f"{damage} in a bucket", f"store-{number}"
                _upload(client, Path(address), f"{name}/packages/shoes/{model}")
                root, address = f"s3://{BUCKET}/{name}", f"s3://{BUCKET}/{name}/packages/shoes/{model}"
            before = _marks(stage.folder, number)
            said = call(lambda root=root, address=address: _answer(root, address), LIMIT, MEMORY)
            outside = tuple(sorted(_marks(stage.folder, number) - before))
            yield _seen(number, kind, said, expected[model], outside)
            for mark in outside:
                Path(mark).unlink(missing_ok=True)
            shutil.rmtree(place)


def _seen(number: int, kind: str, said: Outcome, expected: Any, outside: tuple[str, ...]) -> Tampered:
    # Who writes both a file and its checksum may make it say anything.
    same = said.how != "returned" or said.value == expected or kind.startswith(SUMMED)
    return Tampered(number, kind, said.how, str(said.value)[:500], same, outside)


def _answer(root: str, address: str) -> Any:
    """As a predictor comes to a package, and what it answers to the package's own example."""
    store = open_store(root)
    package = load_package(store.fetch(address, verify=True))
    package.check()
    request = package.ranker.parse({"items": list(package.vocabulary.ids[:2]), "k": 5})
    return [item["item"] for item in package.ranker.rank([request])[0].to_json()["items"]]


def _copy(shop: Shop, model: str, place: Path) -> tuple[str, str]:
    """A store with this package alone; its address, and the package's folder."""
    folder = place / "store" / "packages" / "shoes" / model
    shutil.copytree(shop.store.root.removeprefix("file://") + f"/packages/shoes/{model}", folder)
    return str(place / "store"), str(folder)


def _upload(client: Any, folder: Path, prefix: str) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            client.fput_object(BUCKET, f"{prefix}/{file.relative_to(folder)}", str(file))
    with contextlib.suppress(ValueError, KeyError):
        for name in json.loads((folder / "manifest.json").read_text())["files"]:
            if not (folder / name).is_file() or name.startswith("/"):
                # What a manifest promises is there, as far as the server takes such a name.
                client.put_object(BUCKET, f"{prefix}/{name}", BytesIO(OUTSIDE), len(OUTSIDE))


def _tamper(folder: Path, damage: str, chance: random.Random, mark: str, place: Path) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    file = chance.choice(files)
    content = file.read_bytes()
    at = chance.randrange(max(len(content), 1))
    if damage == "a turned bit" and content:
        file.write_bytes(content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :])
    elif damage == "a cut file":
        file.write_bytes(content[:at])
    elif damage == "a file gone":
        file.unlink()
    elif damage == "other content, rightly summed":
        file = chance.choice([each for each in files if each.name != "manifest.json"])
        file.write_bytes(chance.choice([*TEXTS, chance.randbytes(300), content[:at]]))
        _sum(folder)
    elif damage == "a wrong leaf":
        file = chance.choice([each for each in files if each.suffix == ".json"])
        document = json.loads(file.read_bytes())
        file.write_text(json.dumps(put(document, chance.choice(list(leaves(document))), chance.choice(VALUES))))
        if file.name != "manifest.json":
            _sum(folder)
    elif damage == "a name":
        manifest = json.loads((folder / "manifest.json").read_text())
        name = chance.choice(NAMES).format(mark=mark, folder=place)
        manifest["files"][name] = {"bytes": len(OUTSIDE), "sha256": hashlib.sha256(OUTSIDE).hexdigest()}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    elif damage == "a link":
        file.unlink()
        file.symlink_to(
            chance.choice(["/etc/hostname", "/dev/zero", "/proc/self/environ", str(place), file.name, "/nowhere"])
        )


def _sum(folder: Path) -> None:
    """Make the manifest say what the files are now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _marks(folder: Path, number: int) -> set[str]:
    """Files of the attempt's mark, wherever an attempt might write one."""
    places = [*folder.rglob(f"mark-{number}"), *Path("/tmp").glob(f"mark-{number}"), *Path("/").glob(f"mark-{number}")]
    return {str(place) for place in places}


def judge(seen: Tampered) -> Iterator[str]:
    if seen.how not in ("returned", "refused"):
        yield f"it {seen.how}: {seen.said}"
    if not seen.same:
        yield f"it answered otherwise than before: {seen.said}"
    if seen.outside:
        yield f"it wrote {', '.join(seen.outside)}"


ATTACK = Attack("tampered", "packages and manifests that were changed", attempts, judge, full=420, short=49, limit=360)
