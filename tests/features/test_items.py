"""Item attributes as numbers: by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from endcap.errors import DataError
from endcap.features import build
from endcap.features.item_attributes import BANDS, MOST_VALUES, encode_attributes, encode_item_features
from endcap.features.view import open_view
from endcap.sources.layouts import ITEM_LAYOUTS
from endcap.spec.model import BlendSpec
from endcap.spec.neural import GRU4RecSpec, SASRecSpec
from endcap.spec.side_tables import Items
from endcap.store import Store
from tests.features.logs import recommender, sessions, shop, snapshot
from tests.refusals import refused


def test_a_text_is_numbered_by_how_many_items_have_it() -> None:
    items = pa.table({"category": ["b", "shoes", None, "a", "shoes"]})
    found = encode_attributes(items, ["category"])["category"]
    assert (found.tolist(), found.dtype) == ([2, 0, -1, 1, 0], np.dtype(np.int64))


def test_the_rarest_of_very_many_values_share_one_number() -> None:
    values = [f"v{number}" for number in range(MOST_VALUES + 50)] + ["often", "often"]
    found = encode_attributes(pa.table({"brand": values}), ["brand"])["brand"]
    assert (found[-1], found.max()) == (0, MOST_VALUES - 1)
    assert np.count_nonzero(found == MOST_VALUES - 1) == 52
    assert set(np.bincount(found)[1:-1]) == {1}


def test_a_number_lies_in_a_band_of_as_many_items_as_any_other() -> None:
    prices = np.exp(np.random.default_rng(3).normal(size=1000))
    found = encode_attributes(pa.table({"price": prices}), ["price"])["price"]
    assert np.bincount(found).tolist() == [100] * BANDS
    assert np.all(np.diff(found[np.argsort(prices)]) >= 0)


def test_what_is_no_number_is_unknown_and_few_values_have_few_bands() -> None:
    prices = pa.array([1.0, float("nan"), None, float("inf"), 1.0, 9.0])
    assert encode_attributes(pa.table({"price": prices}), ["price"])["price"].tolist() == [0, -1, -1, -1, 0, 1]
    assert encode_attributes(pa.table({"stock": [7, 7]}), ["stock"])["stock"].tolist() == [0, 0]
    nothing = pa.table({"price": pa.array([None, None], pa.float64()), "category": pa.array([None, None], pa.string())})
    assert {name: found.tolist() for name, found in encode_attributes(nothing, ["price", "category"]).items()} == {
        "price": [-1, -1],
        "category": [-1, -1],
    }


def test_an_attribute_that_items_lack_is_an_error_that_says_which_there_are() -> None:
    items = pa.table({"item": ["1"], "events": [3], "title": ["A"], "category": ["x"]})
    for name in ("price", "title", "events"):
        with refused(DataError, "features.attribute-unknown", found=name, allowed=["category"]):
            encode_attributes(items, [name])


def test_a_blend_is_given_what_its_members_name() -> None:
    items = pa.table({"category": ["x", "y"], "price": [1.0, 2.0], "brand": ["p", "q"]})
    members = {
        "one": GRU4RecSpec(item_features=["price"]),
        "other": SASRecSpec(item_features=["category", "price"]),
        "third": GRU4RecSpec(),
    }
    assert sorted(encode_item_features(items, BlendSpec(members=members))) == ["category", "price"]
    assert encode_item_features(None, GRU4RecSpec()) == {}


@pytest.mark.parametrize("layout", ITEM_LAYOUTS)
def test_the_attributes_of_a_layout_are_those_that_its_reader_brings(layout: str) -> None:
    published = ITEM_LAYOUTS[layout]
    brought = {"category": published.category or published.flags, "price": published.price}
    shop_items = Items.model_validate({"sources": [{"path": "i.csv", "layout": layout}], "categorical": ["brand"]})
    assert shop_items.attributes == [*(name for name, column in brought.items() if column), "brand"]


def test_what_only_the_test_has_gives_no_bands_and_no_values(store: Store) -> None:
    def encode(category: str, price: float) -> dict[str, list[int]]:
        rows = sessions("abc bca cab abz")
        known = {"item": list("abcz"), "category": ["x", "y", "y", category], "price": [1.0, 2.0, 3.0, price]}
        folder = store.fetch(build(shop(), snapshot(store, rows, items=known), store))
        view = open_view(folder, recommender(split={"by": "time", "test": 0.25, "validation": 0.25}))
        assert sorted(view.vocabulary.ids) == ["a", "b", "c"]
        spec = GRU4RecSpec(item_features=["category", "price"])
        return {name: array.tolist() for name, array in encode_item_features(view.items, spec).items()}

    assert encode("x", 2.5) == encode("new", 0.01)
