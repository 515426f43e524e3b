"""What every online store promises: the suite of all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from endcap.errors import NotFoundError
from endcap.online import OnlineQuery, OnlineStore, RecentEvent, TableKeys
from endcap.online.key_names import CUSTOMERS, OWNED, list_owners
from tests.refusals import refused

DAY = timedelta(days=1)
SOON = timedelta(milliseconds=300)
Open = Callable[..., OnlineStore]


def forgotten_after_a_while(still_there: Callable[[], object]) -> None:
    """Wait until nothing is there any more; it must not take much longer than SOON."""
    assert still_there()
    limit = time.monotonic() + 5
    while still_there():
        assert time.monotonic() < limit
        time.sleep(0.02)


class OnlineContract:
    """For subclasses with a fixture `opened`: what opens the store, again too, of the shop `shop` or another."""

    @pytest.fixture
    def store(self, opened: Open) -> Iterator[OnlineStore]:
        with opened() as store:
            yield store

    # Recent events

    def test_the_last_events_of_each_owner_come_oldest_first_whatever_order_they_came_in(
        self, store: OnlineStore, opened: Open
    ) -> None:
        store.append(
            {"customer:1": [RecentEvent("b", 20), RecentEvent("a", 10, "view")], "session:1": [RecentEvent("x", 5)]},
            DAY,
        )
        store.append({"customer:1": [RecentEvent("c", 15)], "customer:2": []}, DAY)
        for seen in (store, opened()):
            found = seen.recent(["session:1", "customer:1", "customer:2"], 10)
            assert found == [
                [RecentEvent("x", 5)],
                [RecentEvent("a", 10, "view"), RecentEvent("c", 15), RecentEvent("b", 20)],
                [],
            ]
            assert seen.recent(["customer:1"], 2) == [[RecentEvent("c", 15), RecentEvent("b", 20)]]
            assert seen.recent(["customer:1"], 0) == [[]]

    def test_an_event_that_is_there_is_not_added_again_and_one_that_differs_is(self, store: OnlineStore) -> None:
        events = [
            RecentEvent("a", 10),
            RecentEvent("a", 10, "view"),
            RecentEvent("a", 10, ""),
            RecentEvent("a", 11),
            RecentEvent("b", 10),
        ]
        for _ in range(2):
            store.append({"customer:1": [*events, events[0]]}, DAY)
        (found,) = store.recent(["customer:1"], 100)
        assert len(found) == len(events)
        assert set(found) == set(events)

    def test_no_more_than_the_last_events_are_kept(self, store: OnlineStore) -> None:
        times = range(1, store.MOST_EVENTS + 201)
        store.append({"customer:1": [RecentEvent("a", time) for time in times]}, DAY)
        store.append({"customer:1": [RecentEvent("late", 0)]}, DAY)
        (found,) = store.recent(["customer:1"], 10 * store.MOST_EVENTS)
        assert [one.time for one in found] == list(times)[-store.MOST_EVENTS :]

    def test_an_owners_events_are_forgotten_some_time_after_the_last_addition(self, store: OnlineStore) -> None:
        store.append({"customer:1": [RecentEvent("a", 1)], "customer:2": [RecentEvent("a", 1)]}, SOON)
        store.append({"customer:2": [RecentEvent("b", 2)]}, DAY)
        forgotten_after_a_while(lambda: store.recent(["customer:1"], 5)[0])
        assert len(store.recent(["customer:2"], 5)[0]) == 2
        store.append({"customer:1": [RecentEvent("c", 3)]}, DAY)
        assert store.recent(["customer:1"], 5) == [[RecentEvent("c", 3)]]

    def test_odd_ids_are_kept_apart(self, store: OnlineStore) -> None:
        odd = ["", " ", "a:b", "a\0b", "a\nb", '"', "[1,2]", "é", "\U0001f6d2", "x" * 5000, "*", "%s", "'; DROP TABLE"]
        store.append({f"customer:{id_}": [RecentEvent(id_, 7, id_)] for id_ in odd}, DAY)
        store.add("owned", {f"customer:{id_}": [id_] for id_ in odd}, None)
        owners = [f"customer:{id_}" for id_ in odd]
        assert store.recent(owners, 5) == [[RecentEvent(id_, 7, id_)] for id_ in odd]
        assert store.members("owned", owners) == [{id_} for id_ in odd]

    def test_many_owners_in_one_call(self, store: OnlineStore) -> None:
        owners = [f"customer:{number}" for number in range(2500)]
        store.append({owner: [RecentEvent(owner, 1), RecentEvent(owner, 2)] for owner in owners}, DAY)
        assert store.recent(owners, 1) == [[RecentEvent(owner, 2)] for owner in owners]

    # Sets

    def test_members_are_forgotten_each_in_its_time_and_the_later_time_counts(self, store: OnlineStore) -> None:
        store.add("owned", {"customer:1": ["a", "b"]}, SOON)
        store.add("owned", {"customer:1": ["b", "c"]}, DAY)
        store.add("owned", {"customer:1": ["c", "d"], "session:1": []}, None)
        store.add("owned", {"customer:1": ["b", "d"]}, SOON)
        store.add("seen", {"customer:1": ["z"]}, DAY)
        assert store.members("owned", ["customer:1", "session:1"]) == [{"a", "b", "c", "d"}, set()]
        forgotten_after_a_while(lambda: "a" in store.members("owned", ["customer:1"])[0])
        assert store.members("owned", ["customer:1"]) == [{"b", "c", "d"}]
        assert store.members("seen", ["customer:1"]) == [{"z"}]

    def test_of_too_many_members_those_that_are_forgotten_last_are_kept(
        self, store: OnlineStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(store), "MOST_MEMBERS", 5)
        store.add("owned", {"customer:1": map(str, range(4))}, None)
        store.add("owned", {"customer:1": ["soon 1", "soon 2", "soon 3"]}, DAY)
        (found,) = store.members("owned", ["customer:1"])
        assert set(map(str, range(4))) < found
        assert len(found) == 5
        store.add("owned", {"customer:1": ["for good"], "customer:2": ["a", "b", "c"]}, None, 2)
        one, other = store.members("owned", ["customer:1", "customer:2"])
        assert len(one) == len(other) == 2

    # Tables

    def test_rows_are_read_after_their_version_is_published(self, store: OnlineStore, opened: Open) -> None:
        assert store.published("lists/home") is None
        assert store.versions("lists/home") == []
        assert store.write("lists/home", "v1", {"1": b"one", "2": b"\0\xff", "empty": b""})
        for seen in (store, opened()):
            assert seen.published("lists/home") is None
            assert seen.rows("lists/home", ["1"]) == [None]
            assert seen.rows("lists/home", ["1"], "v1") == [b"one"]
            assert seen.versions("lists/home") == ["v1"]
        store.publish("lists/home", "v1")
        for seen in (store, opened()):
            assert seen.published("lists/home") == "v1"
            assert seen.rows("lists/home", ["2", "3", "1", "empty"]) == [b"\0\xff", None, b"one", b""]
            assert seen.rows("lists/brand", ["1"]) == [None]

    def test_the_version_before_is_kept_for_going_back_and_older_ones_are_dropped(self, store: OnlineStore) -> None:
        for version in ("v1", "v2", "v3"):
            store.write("lists", version, {"1": version.encode()})
            store.publish("lists", version)
        assert store.versions("lists") == ["v3", "v2"]
        assert store.rows("lists", ["1"], "v1") == [None]
        store.publish("lists", "v2")
        assert (store.versions("lists"), store.rows("lists", ["1"])) == (["v2", "v3"], [b"v2"])
        store.write("lists", "v4", {})
        store.publish("lists", "v4")
        assert (store.versions("lists"), store.rows("lists", ["1"])) == (["v4", "v2"], [None])

    def test_a_version_without_rows_cannot_be_published(self, store: OnlineStore) -> None:
        store.write("lists", "v1", {"1": b"1"})
        store.publish("lists", "v1")
        with refused(NotFoundError, "online.version-not-found", table="lists", found="v2", allowed=["v1"]):
            store.publish("lists", "v2")
        assert store.published("lists") == "v1"

    def test_a_published_version_is_immutable(self, store: OnlineStore) -> None:
        store.write("lists", "v1", {"1": b"old"})
        assert store.write("lists", "v1", {"1": b"first"})
        for version in ("v1", "v2"):
            store.write("lists", version, {})
            store.publish("lists", version)
            assert not store.write("lists", "v1", {"1": b"other", "2": b"more"})
            assert store.rows("lists", ["1", "2"], "v1") == [b"first", None]

    def test_a_version_is_forgotten_some_time_after_it_was_published_last(self, store: OnlineStore) -> None:
        store.write("lists", "v1", {"1": b"1"}, keep=SOON)
        store.write("lists", "v2", {"1": b"2"}, keep=SOON)
        store.publish("lists", "v1")
        store.publish("lists", "v2")
        store.write("lists", "v3", {"1": b"3"}, keep=DAY)
        forgotten_after_a_while(lambda: store.rows("lists", ["1"])[0])
        assert (store.published("lists"), store.versions("lists")) == (None, ["v3"])
        assert store.write("lists", "v2", {"2": b"anew"}, keep=DAY)
        assert store.rows("lists", ["1", "2"]) == [None, None]
        store.publish("lists", "v2")
        assert store.rows("lists", ["1", "2"]) == [None, b"anew"]

    def test_a_version_that_nobody_publishes_is_forgotten(
        self, store: OnlineStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(store), "UNPUBLISHED", SOON)
        store.write("lists", "v1", {"1": b"1"})
        store.write("lists", "v2", {"1": b"2"})
        store.publish("lists", "v2")
        forgotten_after_a_while(lambda: "v1" in store.versions("lists"))
        assert store.rows("lists", ["1"]) == [b"2"]

    def test_a_dropped_version_is_deleted_and_may_be_written_again(self, store: OnlineStore) -> None:
        for version in ("v1", "v2"):
            store.write("lists", version, {"1": b"1"})
            store.publish("lists", version)
        store.drop("lists", "v2")
        assert (store.published("lists"), store.versions("lists")) == (None, ["v1"])
        assert store.rows("lists", ["1"]) == [None]
        store.publish("lists", "v1")
        assert store.write("lists", "v2", {"2": b"2"})
        assert store.rows("lists", ["1", "2"], "v2") == [None, b"2"]

    def test_thousands_of_rows_are_written_in_parts(self, store: OnlineStore) -> None:
        rows = {f"c{number}": f"{number}".encode() * 100 for number in range(3000)}
        store.write("lists", "v1", rows)
        store.publish("lists", "v1")
        assert store.rows("lists", list(rows)) == list(rows.values())

    # All together

    def test_a_customer_is_forgotten_everywhere_and_nobody_else_is(self, store: OnlineStore) -> None:
        event = [RecentEvent("a", 1)]
        owners = [owner for customer in ("1", "10", "1|2") for owner in list_owners("s", customer)]
        store.append(dict.fromkeys([*owners, "session:|s"], event), DAY)
        store.add(OWNED, {owner: ["a"] for owner in owners}, DAY)
        store.add(CUSTOMERS, {"session:|s": ["1", "10"]}, DAY)
        for table in ("features/customers/d", "features/items/d"):
            for version in ("v", "w"):
                store.write(table, version, {"1": b"x", "10": b"y"})
                store.publish(table, version)
        tables = ["features/customers/", "lists/"]
        assert store.forget(["1"], tables, erase=False) == 2 + 2 + 1 + 2
        assert store.recent(owners[:1], 1) == [event]
        assert store.forget(["1"], tables) == 7
        assert store.forget(["1"], tables) == 0
        assert store.recent([*owners, "session:|s"], 1) == [[], [], event, event, event, event, event]
        assert store.members(OWNED, owners) == [set(), set(), {"a"}, {"a"}, {"a"}, {"a"}]
        assert store.members(CUSTOMERS, ["session:|s"]) == [{"10"}]
        for version in ("v", "w"):
            assert store.rows("features/customers/d", ["1", "10"], version) == [None, b"y"]
            assert store.rows("features/items/d", ["1", "10"], version) == [b"x", b"y"]

    def test_one_reading_finds_everything(self, store: OnlineStore) -> None:
        assert store.read(OnlineQuery()).rows == []
        store.append({"customer:1": [RecentEvent("a", 1)]}, DAY)
        store.add("owned", {"customer:1": ["b"]}, None)
        for table in ("lists", "items"):
            store.write(table, "v1", {"1": table.encode()})
        store.publish("items", "v1")
        found = store.read(
            OnlineQuery(
                events=["session:1", "customer:1"],
                most=5,
                sets=[("owned", ["customer:1", "customer:2"]), ("other", ["customer:1"])],
                rows=[
                    TableKeys("items", ["0", "1"]),
                    TableKeys("lists", ["1"]),
                    TableKeys("lists", ["1"], "v1"),
                    TableKeys("items", []),
                ],
            )
        )
        assert found.events == [[], [RecentEvent("a", 1)]]
        assert found.sets == [[{"b"}, set()], [set()]]
        assert found.rows == [[None, b"items"], [None], [b"lists"], []]

    def test_shops_do_not_meet(self, store: OnlineStore, opened: Open) -> None:
        other = opened(shop="other")
        store.append({"customer:1": [RecentEvent("a", 1)]}, DAY)
        store.add("owned", {"customer:1": ["b"]}, None)
        store.write("lists", "v1", {"1": b"1"})
        store.publish("lists", "v1")
        assert other.recent(["customer:1"], 5) == [[]]
        assert other.members("owned", ["customer:1"]) == [set()]
        assert (other.published("lists"), other.rows("lists", ["1"], "v1")) == (None, [None])

    def test_names_that_could_be_mistaken_are_refused(self, store: OnlineStore) -> None:
        for name in ("", "a:b", "a b", "/a", "a\n"):
            with pytest.raises(ValueError, match="allowed: letters"):
                store.write(name, "v1", {})
            with pytest.raises(ValueError, match="allowed: letters"):
                store.add(name, {"customer:1": ["a"]}, None)

    # Several at once

    def test_readers_see_the_old_version_or_the_new_one_while_two_publish(self, opened: Open) -> None:
        keys = [f"k{number}" for number in range(200)]
        over = threading.Event()
        seen: list[set[bytes | None]] = [set()]
        last: list[str] = []

        def watch() -> None:
            with opened() as store:
                while not over.is_set():
                    seen.append(set(store.rows("lists", keys)))

        def publish(name: str) -> None:
            with opened() as store:
                for number in range(1000):
                    if number >= 10 and len(set().union(*seen)) > 4:
                        last.append(f"{name}{number - 1}")
                        return
                    version = f"{name}{number}"
                    for first in range(0, len(keys), 50):
                        store.write("lists", version, dict.fromkeys(keys[first : first + 50], version.encode()))
                    try:
                        store.publish("lists", version)
                    except NotFoundError:
                        raise AssertionError(f"{version} was dropped before it was published") from None
            raise AssertionError("the reader saw none of the changes")

        together(watch, *(lambda name=name: publish(name) for name in "ab"), over=over)
        assert all(len(rows) == 1 for rows in seen[1:]), "a mixture of versions was read"
        assert opened().published("lists") in last
        assert len(opened().versions("lists")) == 2

    def test_events_come_in_from_several_threads_while_others_read(self, opened: Open) -> None:
        store, over = opened(), threading.Event()

        def write(first: int) -> None:
            for time_ in range(first, first + 50):
                store.append(
                    {"customer:1": [RecentEvent("a", time_)], f"session:{first}": [RecentEvent("a", time_)]}, DAY
                )

        def watch() -> None:
            while not over.is_set():
                times = [one.time for one in store.recent(["customer:1"], 1000)[0]]
                assert times == sorted(times)

        together(watch, *(lambda first=first: write(first) for first in (0, 1000, 2000)), over=over)
        (found,) = store.recent(["customer:1"], 1000)
        assert [one.time for one in found] == [first + n for first in (0, 1000, 2000) for n in range(50)]


def together(watch: Callable[[], None], *work: Callable[[], None], over: threading.Event) -> None:
    """Run the work, and `watch` until it is over; raises what any of them raised."""
    errors: list[BaseException] = []

    def run_and_catch(run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            errors.append(error)

    watcher, *threads = [threading.Thread(target=run_and_catch, args=(run,)) for run in (watch, *work)]
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    watcher.join()
    if errors:
        raise errors[0]
