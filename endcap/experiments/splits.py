"""Which arm a shopper meets: the same hash as Envoy's, so that each choice can be computed again from a log."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import xxhash

from endcap.errors import DataError

Challenger = Literal[
    "challenger-1",
    "challenger-2",
    "challenger-3",
    "challenger-4",
    "challenger-5",
    "challenger-6",
    "challenger-7",
]
Arm = Literal["stable", "canary", "previous", "baseline", Challenger]
CHALLENGERS: tuple[Challenger, ...] = get_args(Challenger)
"""The arms of an A/B test beside stable. Their places on the hash range are those of its layout."""
ARMS: tuple[Arm, ...] = ("canary", "stable", "previous", "baseline")
"""The arms without an A/B test. The first three lie on one hash range in this order. The canary grows from the lower
end and `previous`, the version before the champion, from the upper end, so a larger share keeps every shopper of the
smaller one. The baseline has a range of its own."""
TOTAL_WEIGHT = 1_000_000
"""Shares are kept to a millionth."""
BASELINE_SEED = 3_141_592_653
"""Of the hash that the baseline's shoppers come from. It never changes, and is the same for all recommenders: a shopper
of the baseline meets popularity wherever there is a baseline."""
_SALT_ID = 6
_TEXT = re.compile(r"([0-9a-f]{12})-(\d{1,7})-(\d{1,7})-(\d{1,7})")
_LAYOUT_TEXT = re.compile(r"([0-9a-f]{12})-([0-9a-f]{12})-(\d{1,7})((?:-\d{1,7}){0,7})")


class ArmPlaces(Protocol):
    """Which arm lies at each place of the hash range, as `endcap.experiments.layout.Layout` says."""

    @property
    def layout_id(self) -> str:
        """12 hexadecimal digits that stand for the places."""
        ...

    def find_arm(self, place: int) -> Arm:
        """Return the arm at a place."""
        ...


@dataclass(frozen=True)
class TrafficSplit:
    """The shares of a recommender's arms at one moment.

    Attributes
    ----------
    salt_id
        12 hexadecimal digits that stand for the salt (`hash_salt`). The salt itself stays secret.
    canary, previous
        The weights of the arms, of `TOTAL_WEIGHT`, among the shoppers whom the baseline does not have. Stable has the
        rest.
    baseline
        The weight of popularity, of `TOTAL_WEIGHT`, among all shoppers.
    layout_id
        During an A/B test the id of the layout (`Layout.layout_id`), which says who meets which arm; else empty.
    challengers
        During an A/B test the weights of its challengers, as those of `canary`. The first is `challenger-1`.

    Notes
    -----
    The baseline is drawn first, by a hash without a salt (`BASELINE_SEED`). So its shoppers stay the same through all
    rollouts, although each has a salt of its own, and a rollout never moves them.
    """

    salt_id: str
    canary: int = 0
    previous: int = 0
    baseline: int = 0
    layout_id: str = field(default="", kw_only=True)
    challengers: tuple[int, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        weights = (self.canary, self.previous, *self.challengers, self.baseline)
        if min(weights) < 0 or max(sum(weights[:-1]), self.baseline) > TOTAL_WEIGHT:
            raise DataError(
                f"weights of a split: found {weights}; allowed: from 0, and at most {TOTAL_WEIGHT:,} of the baseline "
                "and of the others together",
                code="experiments.split-weights",
                found=list(weights),
                most=TOTAL_WEIGHT,
            )

    @property
    def stable(self) -> int:
        """The weight of the stable version, among the shoppers whom the baseline does not have."""
        return TOTAL_WEIGHT - self.canary - self.previous - sum(self.challengers)

    def weigh(self, arm: Arm) -> int:
        """Return the weight of an arm, of `TOTAL_WEIGHT`, on its hash range."""
        if arm in CHALLENGERS:
            number = CHALLENGERS.index(arm)
            return self.challengers[number] if number < len(self.challengers) else 0
        weight: int = getattr(self, arm)
        return weight

    def probability(self, arm: Arm, among: Iterable[Arm] = (*ARMS, *CHALLENGERS)) -> float:
        """Return the probability that a shopper who meets one of the arms `among` meets `arm`: 0 to 1."""
        whole = sum(self._measure(other) for other in among)
        return self._measure(arm) / whole if whole else 0.0

    def choose(self, shopper: str, salt: str, layout: ArmPlaces | None = None) -> Arm:
        """Return the arm that Envoy chooses for a shopper.

        Parameters
        ----------
        shopper
            The value of the request's shopper header.
        salt
            The salt of the rollout, as the gateway has it.
        layout
            During an A/B test its layout.

        Raises
        ------
        DataError
            The salt is not this split's (``experiments.other-salt``), or the layout is not
            (``experiments.other-layout``).

        Notes
        -----
        Envoy hashes the header by XXH64 with the seed 0 and takes the remainder by the total weight
        (`HashPolicy.header` and `weighted_clusters` of route_components.proto).
        """
        if hash_salt(salt) != self.salt_id:
            raise DataError(
                f"the salt belongs to the split {hash_salt(salt)}, and this one is {self.salt_id}",
                code="experiments.other-salt",
                found=hash_salt(salt),
                expected=self.salt_id,
            )
        if self.has_in_baseline(shopper):
            return "baseline"
        if not self.layout_id:
            return self.find_arm(hash_shopper(shopper, salt))
        if layout is None or layout.layout_id != self.layout_id:
            raise DataError(
                f"the split of an A/B test goes by the layout {self.layout_id}, and "
                f"{f'{layout.layout_id} is here' if layout else 'none is here'}",
                code="experiments.other-layout",
                expected=self.layout_id,
            )
        return layout.find_arm(hash_shopper(shopper, salt))

    def find_arm(self, place: int) -> Arm:
        """Return the arm at a place of the hash range, 0 to `TOTAL_WEIGHT` - 1, for whom the baseline does not have.

        It is of a split without an A/B test.

        Notes
        -----
        If one arm's share changes, or both fall or rise, as few shoppers move as there can be. If one rises while the
        other falls, both changes move shoppers, although some could go from arm to arm at once. No rule that knows only
        the present shares moves the least between all states of three arms. Let the arms have (1/2, 1/2, 0),
        (0, 1/2, 1/2) and (1/2, 0, 1/2). The second arm's shoppers keep it in the second state, so the first arm's get
        the third, which they keep in the third state. From the first state to the third they would have to keep the
        first arm. So an A/B test, whose shares change together, keeps a layout (`endcap.experiments.layout.Layout`),
        by which every change moves the least.
        """
        if place < self.canary:
            return "canary"
        return "stable" if place < self.canary + self.stable else "previous"

    def has_in_baseline(self, shopper: str) -> bool:
        """Tell whether a shopper meets the baseline, whatever the salt is.

        Notes
        -----
        Envoy's `ConsistentHashing` matcher takes XXH64 of the header, with a seed, and matches from a threshold on.
        """
        if not self.baseline:
            return False
        place = xxhash.xxh64_intdigest(encode_shopper(shopper), seed=BASELINE_SEED) % TOTAL_WEIGHT
        return place >= TOTAL_WEIGHT - self.baseline

    def _measure(self, arm: Arm) -> int:
        """Return how many shoppers meet an arm, of the square of `TOTAL_WEIGHT`."""
        if arm == "baseline":
            return self.baseline * TOTAL_WEIGHT
        return self.weigh(arm) * (TOTAL_WEIGHT - self.baseline)

    def to_text(self) -> str:
        """Return the split as a header's value."""
        if self.layout_id:
            return "-".join(map(str, (self.salt_id, self.layout_id, self.baseline, *self.challengers)))
        return f"{self.salt_id}-{self.canary}-{self.previous}-{self.baseline}"

    @classmethod
    def from_text(cls, text: str) -> TrafficSplit | None:
        """Read what `to_text` wrote; None for any other text."""
        try:
            if match := _TEXT.fullmatch(text):
                return cls(match[1], *map(int, match.groups()[1:]))
            if match := _LAYOUT_TEXT.fullmatch(text):
                challengers = tuple(map(int, match[4].split("-")[1:]))
                return cls(match[1], baseline=int(match[3]), layout_id=match[2], challengers=challengers)
        except DataError:
            return None
        return None


def hash_salt(salt: str) -> str:
    """Return the 12 hexadecimal digits that stand for a salt."""
    return hashlib.blake2b(salt.encode(), digest_size=_SALT_ID, person=b"endcap-salt").hexdigest()


def hash_shopper(shopper: str, salt: str) -> int:
    """Return a shopper's place on the hash range: 0 to `TOTAL_WEIGHT` - 1."""
    return xxhash.xxh64_intdigest(salt.encode() + b"/" + encode_shopper(shopper)) % TOTAL_WEIGHT


def encode_shopper(shopper: str) -> bytes:
    """Return a shopper's id as the bytes of a header. Bytes that were no UTF-8 come back as they were read."""
    try:
        return shopper.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # JSON may hold half of a surrogate pair, which no header has.
        return shopper.encode("utf-8", "surrogatepass")


def weigh_share(share: float) -> int:
    """Return the weight of a share (0 to 1), of `TOTAL_WEIGHT`."""
    return round(share * TOTAL_WEIGHT)
