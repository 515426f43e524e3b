"""What came since the run before: by the listing that was kept."""

from __future__ import annotations

from endcap.events.data_version import DataListing
from endcap.schedules.arrivals import MOST_NAMES, MOST_PARTS, condense_listing, find_arrival, keep_listing, list_days
from endcap.store import Store


def test_what_came_is_told_by_the_listing_before(store: Store) -> None:
    first = DataListing("v1", {"log/1.csv": "a", "log/2.csv": "a", "log/3.csv": "a"})
    second = DataListing("v2", {"log/2.csv": "b", "log/3.csv": "a", "log/4.csv": "a"})

    def find(listing: DataListing) -> tuple[int, int, int, tuple[str, ...]]:
        arrival = find_arrival(store, "home", "train", listing)
        assert arrival is not None
        return arrival.added, arrival.changed, arrival.removed, arrival.names

    assert find(first) == (3, 0, 0, ("log/1.csv", "log/2.csv", "log/3.csv"))
    keep_listing(store, "home", "train", first)
    assert find(first) == (0, 0, 0, ())
    assert find(second) == (1, 1, 1, ("log/4.csv", "log/2.csv"))
    assert find_arrival(store, "home", "train", DataListing("v3")) is None


def test_very_many_parts_are_compared_by_folders(store: Store) -> None:
    parts = {f"log/day={day:02}/{file}": "a" for day in range(1, 31) for file in range(MOST_PARTS // 10)}
    keep_listing(store, "home", "train", DataListing("v1", parts))
    arrival = find_arrival(store, "home", "train", DataListing("v2", {**parts, "log/day=07/1": "b"}))
    assert arrival is not None
    assert (arrival.added, arrival.changed, arrival.names) == (0, 1, ("log/day=07/",))
    assert condense_listing({f"{folder}/1": "a" for folder in range(MOST_PARTS + 1)}) == {}
    few = find_arrival(store, "hats", "train", DataListing("v1", {f"{name}.csv": "a" for name in range(MOST_PARTS)}))
    assert few is not None
    assert (few.added, len(few.names)) == (MOST_PARTS, MOST_NAMES)


def test_days_are_read_from_names() -> None:
    names = [
        "s3://log/day=2026-03-01/a.csv",
        "log/year=2026/month=03/day=02/a.csv",
        "log/2026/03/03/0001.parquet",
        "shop.events$20260304",
        "shop.events$2026030517",
        "log/part-20260306T120000.csv",
    ]
    assert list(list_days(names)) == [f"2026-03-0{day}" for day in range(1, 7)]
    assert list(list_days(["log/99999999.csv", "log/2026-13-01", "id-12345678901234567890", "2026-0301"])) == []
