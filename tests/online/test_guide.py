"""What docs/online-store.md shows and names does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from endcap.online import RecentEvent, open_online
from tests.online.servers import RedisServer

GUIDE = (Path(__file__).parents[2] / "docs" / "online-store.md").read_text()


def test_the_example_runs(redis_server: RedisServer) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert "redis://127.0.0.1:6379" in example
    example = example.replace("redis://127.0.0.1:6379", redis_server.url)
    subprocess.run([sys.executable, "-c", example], check=True)
    with open_online(redis_server.url, shop="demo", timeout=5) as online:
        assert online.recent(["customer:c7"], 50) == [[RecentEvent("p1", 1774828800000, "view")]]
        assert online.rows("campaign/spring", ["c7"]) == [b"20 % off"]


def test_the_rights_that_are_named_are_enough(redis_server: RedisServer) -> None:
    (rights,) = re.findall(r"rights \(ACL\) \| `(.*?)`", GUIDE)
    redis_server.client().execute_command("ACL", "SETUSER", "endcap", "on", ">p@ss/word", *rights.split())
    url = redis_server.url.replace("//", "//endcap:p%40ss%2Fword@")
    with open_online(url, shop="rights", timeout=5) as online:
        online.ping()
        online.append({"customer:1": [RecentEvent("a", 1)]}, timedelta(days=1))
        online.add("owned", {"customer:1": ["a"]}, None)
        for version in ("v1", "v2", "v3"):
            online.write("lists", version, {"1": b"one"})
            online.publish("lists", version)
        online.drop("lists", "v2")
        assert online.versions("lists") == ["v3"]
        assert online.rows("lists", ["1"]) == [b"one"]
        assert online.members("owned", ["customer:1"]) == [{"a"}]
        assert online.recent(["customer:1"], 1) == [[RecentEvent("a", 1)]]
        assert online.forget(["1"], ["lists"]) == 3
