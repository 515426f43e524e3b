"""The products of a simulated shop, with titles, categories, brands, prices and related products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RELATED = 8
"""The number of products that each product leads to."""
LEVELS = 3
"""Price levels within a kind of product: low, middle, high."""
_PER_KIND = 40
_LATER, _HORIZON = 0.3, 100

# Category: its middle price and its kinds of product.
TREE = {
    "Outdoor/Tents": (190, ("Dome Tent", "Tunnel Tent", "Trekking Tent", "Tarp", "Bivy Bag", "Camp Shelter")),
    "Outdoor/Sleeping": (85, ("Sleeping Bag", "Sleeping Mat", "Hammock", "Camp Pillow", "Bag Liner", "Quilt")),
    "Outdoor/Cooking": (38, ("Gas Stove", "Cook Set", "Mess Tin", "Water Filter", "Camp Kettle", "Spork Set")),
    "Outdoor/Packs": (95, ("Trekking Pack", "Day Pack", "Dry Bag", "Duffel", "Pack Cover", "Hip Pack")),
    "Sports/Running": (70, ("Trail Shoes", "Road Shoes", "Running Vest", "Running Shorts", "Running Belt", "Gaiters")),
    "Sports/Cycling": (60, ("Bike Helmet", "Bike Light", "Pannier", "Cycling Jersey", "Floor Pump", "Bike Lock")),
    "Sports/Climbing": (55, ("Harness", "Belay Device", "Climbing Shoes", "Chalk Bag", "Rope", "Quickdraw Set")),
    "Sports/Yoga": (32, ("Yoga Mat", "Yoga Block", "Bolster", "Yoga Strap", "Balance Ball", "Foam Roller")),
    "Kitchen/Knives": (58, ("Chef's Knife", "Paring Knife", "Bread Knife", "Knife Block", "Whetstone", "Santoku")),
    "Kitchen/Pans": (64, ("Frying Pan", "Saucepan", "Wok", "Casserole", "Grill Pan", "Stock Pot")),
    "Kitchen/Baking": (22, ("Cake Tin", "Mixing Bowl", "Rolling Pin", "Baking Sheet", "Kitchen Scale", "Whisk")),
    "Kitchen/Coffee": (
        75,
        ("Coffee Grinder", "French Press", "Moka Pot", "Milk Frother", "Espresso Cup", "Filter Set"),
    ),
    "Home/Bedding": (68, ("Duvet Cover", "Pillow", "Fitted Sheet", "Wool Blanket", "Bedspread", "Mattress Topper")),
    "Home/Lighting": (54, ("Desk Lamp", "Floor Lamp", "Pendant Light", "Night Light", "String Lights", "Lantern")),
    "Home/Storage": (29, ("Storage Box", "Laundry Basket", "Wall Shelf", "Coat Rack", "Shoe Rack", "Drawer Unit")),
    "Home/Garden": (35, ("Plant Pot", "Watering Can", "Pruning Shears", "Garden Hose", "Bird Feeder", "Rain Gauge")),
    "Clothing/Jackets": (140, ("Rain Jacket", "Down Jacket", "Softshell", "Fleece", "Windbreaker", "Parka")),
    "Clothing/Basics": (27, ("Merino Shirt", "Cotton T-Shirt", "Crew Socks", "Base Layer", "Beanie", "Scarf")),
    "Travel/Luggage": (125, ("Cabin Case", "Suitcase", "Garment Bag", "Packing Cubes", "Wash Bag", "Neck Pillow")),
    "Travel/Gadgets": (42, ("Power Bank", "Travel Adapter", "Luggage Scale", "Headlamp", "Bottle", "Padlock")),
}
_BRANDS = (
    "Alder & Finch", "Aurland", "Bergvik", "Brightwater", "Calder", "Corvane", "Dunmore", "Eastfell", "Fennick",
    "Grauhorn", "Halden", "Inverlea", "Jorasse", "Kestrel Bay", "Lowmoor", "Marlowe", "Nordhavn", "Ostrava Works",
    "Pinecrest", "Quayside", "Rothbury", "Silverlake", "Tarnwell", "Valmora",
)  # fmt: skip
_STYLES = (
    "Classic", "Light", "Compact", "Pro", "Everyday", "Alpine", "Studio", "Heritage", "Nova", "Trail", "Urban", "Prime",
)  # fmt: skip
_COLOURS = ("Black", "Slate", "Olive", "Sand", "Navy", "Rust", "White", "Moss", "Plum", "Sky", "Ochre", "Graphite")


@dataclass(frozen=True)
class ProductRange:
    """`n` products of `c` kinds. Products of a kind, and kinds of a category, stand together.

    ids, titles, brands: text [n]. category, kind: int32 [n], rising. kind_start: int64 [c+1], the products of each
    kind; category_start likewise. price: float64 [n]. level: int8 [n], the price level within the kind. appeal:
    float64 [n], long-tailed. launch: int32 [n], the day on which a product appears, 0 for those there from the start.
    related: int32 [n, RELATED], what a product leads on to; affinity: float64 [n, RELATED], how strongly.
    """

    ids: NDArray[np.str_]
    titles: NDArray[np.str_]
    brands: NDArray[np.str_]
    category: NDArray[np.int32]
    kind: NDArray[np.int32]
    category_start: NDArray[np.int64]
    kind_start: NDArray[np.int64]
    price: NDArray[np.float64]
    level: NDArray[np.int8]
    appeal: NDArray[np.float64]
    launch: NDArray[np.int32]
    related: NDArray[np.int32]
    affinity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def category_names(self) -> NDArray[np.str_]:
        """The category of each product, as a path: text [n]."""
        return np.array(list(TREE))[self.category]


def make_products(rng: np.random.Generator, items: int) -> ProductRange:
    """Draw this number of products. Three in ten appear later, evenly over the first 100 days."""
    nouns = [(category, noun) for category, (_, kinds) in enumerate(TREE.values()) for noun in kinds]
    kinds = max(1, min(items, max(len(nouns), items // _PER_KIND) if items >= 4 * len(nouns) else items // 4))
    kind_noun = np.sort(np.arange(kinds) % len(nouns) if kinds >= len(nouns) else rng.permutation(len(nouns))[:kinds])
    size = rng.dirichlet(np.full(kinds, 6.0))
    kind = np.sort(np.concatenate([np.arange(kinds), rng.choice(kinds, items - kinds, p=size)])).astype(np.int32)
    kind_start = np.searchsorted(kind, np.arange(kinds + 1)).astype(np.int64)
    category = np.array([category for category, _ in nouns], dtype=np.int32)[kind_noun][kind]
    appeal = (rng.permutation(items) + 30.0) ** -0.9 * rng.lognormal(0.0, 0.4, kinds)[kind]
    launch = np.where(rng.random(items) < _LATER, rng.integers(1, _HORIZON + 1, items), 0).astype(np.int32)
    launch[kind_start[:-1]] = 0  # no kind is ever empty
    price, level = _draw_prices(rng, kind, kind_start, category)
    titles, brands = _draw_titles(rng, [nouns[noun][1] for noun in kind_noun], kind_start)
    related, affinity = _draw_relations(rng, kind, kind_start, appeal)
    return ProductRange(
        ids=np.char.add("p", np.char.zfill(rng.permutation(items * 7)[:items].astype(str), 6)),
        titles=titles,
        brands=brands,
        category=category,
        kind=kind,
        category_start=np.searchsorted(category, np.arange(len(TREE) + 1)).astype(np.int64),
        kind_start=kind_start,
        price=price,
        level=level,
        appeal=appeal,
        launch=launch,
        related=related,
        affinity=affinity,
    )


def _draw_prices(
    rng: np.random.Generator, kind: NDArray[np.int32], kind_start: NDArray[np.int64], category: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    middle = np.array([price for price, _ in TREE.values()], dtype=np.float64)[category]
    raw = middle * rng.lognormal(0.0, 0.35, len(kind_start) - 1)[kind] * rng.lognormal(0.0, 0.4, len(kind))
    price = np.where(raw < 20, np.floor(raw) + 0.95, np.maximum(np.round(raw / 5) * 5 - 0.1, 0.95))
    rank = np.empty(len(kind), dtype=np.int64)
    rank[np.lexsort((raw, kind))] = np.arange(len(kind))
    within = (rank - kind_start[kind]) / np.diff(kind_start)[kind]
    return np.round(price, 2).astype(np.float64), (within * LEVELS).astype(np.int8)


def _draw_titles(
    rng: np.random.Generator, nouns: list[str], kind_start: NDArray[np.int64]
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Brand, style, noun and colour, different within a kind; a kind that repeats a noun is a series of its own."""
    combinations = len(_BRANDS) * len(_STYLES) * len(_COLOURS)
    series = {number: nouns[:number].count(noun) + 1 for number, noun in enumerate(nouns)}
    titles, brands = [], []
    for number, noun in enumerate(nouns):
        count = int(kind_start[number + 1] - kind_start[number])
        first = rng.integers(combinations)
        step = 1009  # shares no factor with the number of combinations: all are visited before one comes again
        for n in range(count):
            words, colour = divmod(int(first + n * step) % combinations, len(_COLOURS))
            brand, style = divmod(words, len(_STYLES))
            mark = "" if series[number] == 1 else f" {series[number]}"
            again = "" if n < combinations else f" no. {n // combinations + 1}"
            titles.append(f"{_BRANDS[brand]} {_STYLES[style]} {noun}{mark}, {_COLOURS[colour]}{again}")
            brands.append(_BRANDS[brand])
    return np.array(titles), np.array(brands)


def _draw_relations(
    rng: np.random.Generator, kind: NDArray[np.int32], kind_start: NDArray[np.int64], appeal: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Three in four lead to the same kind, the others to one partner kind; appealing products are led to more often."""
    kinds = len(kind_start) - 1
    partner = rng.permutation(kinds)
    target = np.repeat(kind[:, None], RELATED, axis=1)
    target = np.where(rng.random(target.shape) < 0.25, partner[target], target)
    reach = np.concatenate([[0.0], np.cumsum(np.sqrt(appeal))])
    low, high = reach[kind_start[target]], reach[kind_start[target + 1]]
    drawn = np.searchsorted(reach, low + rng.random(target.shape) * (high - low), side="right") - 1
    related = np.clip(drawn, kind_start[target], kind_start[target + 1] - 1).astype(np.int32)
    affinity = np.repeat(0.75 ** np.arange(RELATED)[None, :], len(kind), axis=0)
    affinity[related == np.arange(len(kind))[:, None]] = 0.0
    return related, affinity
