"""From what was reported to who saw what: each ranking once, under the arm that its id says, or refused under a name.

The moment of an exposure is the moment at which its ranking was made, by the server's clock and in the signed id. A
shop's clock that jumps therefore moves no exposure into another split or window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from endcap.experiments.layout import AB_ARMS, KnownLayouts, Layout, number_layout
from endcap.experiments.ranking_token import RankingToken, TokenFault, TokenSigner
from endcap.experiments.splits import Arm, TrafficSplit, encode_shopper, hash_salt
from endcap.pseudonyms import looks_like_pseudonym

Refusal = (
    TokenFault
    | Literal[
        "replayed",
        "no-shopper",
        "no-split",
        "shadow",
        "other-salt",
        "unknown-layout",
        "other-arm",
        "late",
        "over-cap",
        "duplicate",
        "behind",
    ]
)
"""Why an impression is not counted: its id holds no token, is damaged or forged; the token is of another shopper; the
request named no shopper, or came without a gateway; it belongs to a shadow, to another rollout, to a layout that the
A/B test never had, to an arm that is not compared; it came too late, is the shopper's more than `rankings_per_day`, was
reported before, or came after its visit was judged."""

_Keys = NDArray[np.uint64]
_Number = TypeVar("_Number", bound=np.generic)


def find_changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which values differ from the one before; the first does: bool [n]."""
    changes = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes


class Columns:
    """Named arrays of one length: the base of dataclasses whose fields are such arrays."""

    def select(self, rows: NDArray[np.generic]) -> Self:
        """Return some rows, by a mask or by numbers."""
        return type(self)(**{name: values[rows] for name, values in self.to_arrays().items()})

    def join(self, other: Self) -> Self:
        """Return these rows with others behind them."""
        added = other.to_arrays()
        return type(self)(**{name: np.concatenate([values, added[name]]) for name, values in self.to_arrays().items()})

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(next(iter(self.to_arrays().values())))


@dataclass(frozen=True)
class Exposures(Columns):
    """Rankings that were seen, one row for each item that was reported as seen.

    Attributes
    ----------
    ranking, shopper, item
        uint64 [n]: hashes of the ranking id, of the shopper's pseudonym and of the item.
    customer
        uint64 [n]: hash of the customer's id; 0 where none was reported.
    time, received
        int64 [n]: when the ranking was made, and when the intake took the impression: milliseconds since 1970, UTC.
    position
        int32 [n]: the item's place in the ranking, from 0.
    treated
        bool [n]: whether the arm that is judged answered, and not the stable version.
    probability
        float64 [n]: the probability of that arm, among it and stable, at the moment of the ranking; 0 before the
        rollout.
    surface
        uint64 [n]: hash of the surface; 0 where none was reported.
    layout
        float64 [n]: during an A/B test the number of the layout (`number_layout`); else 0.
    is_elsewhere
        bool [n]: whether another arm of the A/B test answered than the two that are compared. Such rows tell which
        shoppers came to the test before, and count for nothing else.
    """

    ranking: _Keys
    shopper: _Keys
    item: _Keys
    customer: _Keys
    time: NDArray[np.int64]
    received: NDArray[np.int64]
    position: NDArray[np.int32]
    treated: NDArray[np.bool_]
    probability: NDArray[np.float64]
    surface: _Keys
    layout: NDArray[np.float64]
    is_elsewhere: NDArray[np.bool_]

    def find_first_reports(self) -> NDArray[np.bool_]:
        """Tell which rows report an item of a ranking first: bool [n]."""
        order = np.lexsort((self.position, self.received, self.item, self.ranking))
        is_first = np.empty(len(order), np.bool_)
        is_first[order] = find_changes(self.ranking[order]) | find_changes(self.item[order])
        return is_first


@dataclass(frozen=True)
class Audit:
    """Arms that were computed again from salt and shopper.

    Attributes
    ----------
    rankings
        How many rankings could be checked: those whose shopper was reported beside the id.
    mismatches
        How many of them had another arm than the computed one.
    """

    rankings: int = 0
    mismatches: int = 0


class ExposureReader:
    """Reads impressions for one rollout.

    Parameters
    ----------
    signer
        Reads the ranking ids of the recommender.
    arm
        The arm that is judged.
    salt
        The rollout's salt, as the gateway has it. None: rankings of all rollouts count, and the audit says only who
        belongs into the baseline.
    against
        The arm that it is compared with.
    begins
        When the rollout began, in milliseconds since 1970.
    history
        A ranking from at most so many milliseconds before was made without the rollout's chance: it counts for the
        shopper's history, whatever answered, with the probability 0.
    layouts
        The layouts of the A/B test, as its log keeps them. An answer by another layout is refused, since its arm cannot
        be computed again. Without a salt they are not needed.
    """

    def __init__(
        self,
        signer: TokenSigner,
        arm: Arm,
        salt: str | None,
        against: Arm = "stable",
        begins: int = 0,
        history: int = 0,
        layouts: Iterable[Layout] | KnownLayouts = (),
    ) -> None:
        self._signer, self._salt = signer, salt
        self._salt_id = None if salt is None else hash_salt(salt)
        self._arm, self._arms = arm, (arm, against)
        self._begins, self._since = begins, begins - history
        self._layouts = layouts if isinstance(layouts, KnownLayouts) else KnownLayouts(layouts)
        self._computed: dict[tuple[TrafficSplit, str], Arm] = {}

    def read(self, impressions: pa.Table) -> tuple[Exposures, Counter[Refusal], Audit]:
        """Read impressions.

        Parameters
        ----------
        impressions
            The columns `ranking_id`, `item`, `position`, `received`, and, where there are, `shopper`, `customer` and
            `surface`, as the intake writes them.

        Returns
        -------
        exposures
            What counts.
        refusals
            How many rows that were received since the rollout began were refused, by the reason.
        audit
            What the computed arms say.
        """
        names, codes = _encode(impressions, "ranking_id")
        reported, shoppers = _encode(impressions, "shopper")
        tokens = [self._judge(name) for name in names]
        refusals: Counter[Refusal] = Counter()
        keep = np.ones(len(impressions), np.bool_)
        is_own = read_milliseconds(impressions, "received") >= self._begins
        reasons = np.array([token if isinstance(token, str) else "" for token in tokens], object)[codes]
        for reason in {token for token in tokens if isinstance(token, str)}:
            at = reasons == reason
            refusals[reason] += int((at & is_own).sum())
            keep &= ~at
        audit, replayed = self._check_shoppers(tokens, codes, reported, shoppers, keep)
        refusals["replayed"] += int((replayed & keep & is_own).sum())
        keep &= ~replayed
        elsewhere = np.array([self._is_elsewhere(token) for token in tokens], np.bool_)[codes]
        refusals["other-arm"] += int((elsewhere & keep & is_own).sum())
        return self._collect(impressions, names, tokens, codes, keep), +refusals, audit

    def find_shoppers(self, table: pa.Table) -> _Keys:
        """Return whose each row is, as `Exposures.shopper` has it: uint64 [n]; 0 for nobody's.

        It is the row's `shopper`, else whoever its `ranking_id` was made for.
        """
        shoppers, numbers = _encode(table, "shopper")
        reported = np.array(
            [0 if each is None else hash_text(self._signer.name_shopper(each)) for each in shoppers], np.uint64
        )[numbers]
        names, codes = _encode(table, "ranking_id")
        tokens = (self._signer.read(name or "") for name in names)
        owners = (token.shopper if isinstance(token, RankingToken) else None for token in tokens)
        read = np.array([0 if owner is None else hash_text(owner) for owner in owners], np.uint64)[codes]
        return np.where(reported != 0, reported, read)

    def _judge(self, ranking_id: str | None) -> RankingToken | Refusal:
        token = self._signer.read(ranking_id or "")
        if not isinstance(token, RankingToken):
            return token
        if token.arm == "shadow":
            return "shadow"
        if token.shopper is None:
            return "no-shopper"
        if self._since <= token.time < self._begins:
            return token
        if token.split is None:
            return "no-split"
        if self._salt_id is not None and token.split.salt_id != self._salt_id:
            return "other-salt"
        if self._salt_id is not None and token.split.layout_id and not self._knows_layout(token.split):
            return "unknown-layout"
        return token if token.arm in self._arms or self._is_elsewhere(token) else "other-arm"

    def _is_elsewhere(self, token: RankingToken | Refusal) -> bool:
        """Tell whether an arm of the A/B test answered that is not compared."""
        if not isinstance(token, RankingToken) or token.time < self._begins or token.arm in self._arms:
            return False
        return token.arm in AB_ARMS and self._find_layout(token) > 0

    def _find_layout(self, token: RankingToken) -> float:
        """Return the number of a ranking's layout; 0 without a test, or if the rankings of all rollouts count."""
        if self._salt is None or token.split is None or not token.split.layout_id or token.time < self._begins:
            return 0.0
        return number_layout(token.split.layout_id)

    def _knows_layout(self, split: TrafficSplit) -> bool:
        """Tell whether the layout of a split is one of the test, with these weights."""
        layout = self._layouts.find(split.layout_id)
        return layout is not None and layout.split(split.salt_id, split.baseline) == split

    def _check_shoppers(
        self,
        tokens: Sequence[RankingToken | Refusal],
        codes: NDArray[np.int64],
        reported: Sequence[str | None],
        shoppers: NDArray[np.int64],
        keep: NDArray[np.bool_],
    ) -> tuple[Audit, NDArray[np.bool_]]:
        """Check each pair of a ranking and a reported shopper: is the token his or hers, and the arm the hash's?"""
        replayed = np.zeros(len(codes), np.bool_)
        pairs = np.stack([codes, shoppers], axis=1)[keep]
        rankings = mismatches = 0
        wrong = set()
        for ranking, number in np.unique(pairs, axis=0).tolist() if len(pairs) else ():
            token, shopper = tokens[ranking], reported[number]
            if shopper is None or not isinstance(token, RankingToken):
                continue
            if not self._signer.is_of(token, shopper):
                wrong.add((ranking, number))
                continue
            # Of a pseudonym nobody can compute the arm: the gateway hashes what the client sent.
            if token.split is None or token.time < self._begins or looks_like_pseudonym(shopper):
                continue
            rankings += 1
            if self._salt is None:
                mismatches += token.split.has_in_baseline(shopper) != (token.arm == "baseline")
            else:
                mismatches += self._compute_arm(token.split, shopper, self._salt) != token.arm
        if wrong:
            replayed = np.array([pair in wrong for pair in zip(codes.tolist(), shoppers.tolist(), strict=True)])
        return Audit(rankings, mismatches), replayed

    def _compute_arm(self, split: TrafficSplit, shopper: str, salt: str) -> Arm:
        arm = self._computed.get((split, shopper))
        if arm is None:
            if len(self._computed) > _MOST_COMPUTED:
                self._computed.clear()
            arm = self._computed[split, shopper] = split.choose(shopper, salt, self._layouts.find(split.layout_id))
        return arm

    def _find_probability(self, token: RankingToken) -> float:
        if token.split is None or token.time < self._begins:
            return 0.0
        return token.split.probability(self._arm, self._arms)

    def _collect(
        self,
        impressions: pa.Table,
        names: Sequence[str | None],
        tokens: Sequence[RankingToken | Refusal],
        codes: NDArray[np.int64],
        keep: NDArray[np.bool_],
    ) -> Exposures:
        rows = np.flatnonzero(keep)
        number = codes[rows]
        counted = [token if isinstance(token, RankingToken) else None for token in tokens]

        def spread(read: Callable[[RankingToken], object], kind: type[_Number]) -> NDArray[_Number]:
            return np.array([0 if token is None else read(token) for token in counted], kind)[number]

        kept = impressions.take(pa.array(rows))
        return Exposures(
            ranking=np.array([hash_text(name or "") for name in names], np.uint64)[number],
            shopper=spread(lambda token: hash_text(token.shopper or ""), np.uint64),
            item=hash_column(kept, "item"),
            customer=hash_column(kept, "customer"),
            time=spread(lambda token: token.time, np.int64),
            received=read_milliseconds(kept, "received"),
            position=kept.column("position").cast(pa.int32()).to_numpy(),
            treated=spread(lambda token: token.arm == self._arm and token.time >= self._begins, np.bool_),
            probability=spread(self._find_probability, np.float64),
            surface=hash_column(kept, "surface"),
            layout=spread(self._find_layout, np.float64),
            is_elsewhere=spread(self._is_elsewhere, np.bool_),
        )


_MOST_COMPUTED = 1_000_000


def hash_column(table: pa.Table, name: str) -> _Keys:
    """Return 64-bit hashes of a text column: uint64 [n]; 0 for nulls, and everywhere if there is no such column."""
    texts, codes = _encode(table, name)
    return np.array([0 if text is None else hash_text(text) for text in texts], np.uint64)[codes]


def read_milliseconds(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Return a column of timestamps as milliseconds since 1970: int64 [n]."""
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", column.type.tz)).cast(pa.int64())
    milliseconds: NDArray[np.int64] = column.to_numpy()
    return milliseconds


def _encode(table: pa.Table, name: str) -> tuple[list[str | None], NDArray[np.int64]]:
    """Return the distinct texts of a column, None among them, and each row's number among them."""
    if name not in table.column_names:
        return [None], np.zeros(len(table), np.int64)
    encoded = pc.dictionary_encode(table.column(name), null_encoding="encode").combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], pa.string()).dictionary_encode("encode")
    return encoded.dictionary.to_pylist() or [None], encoded.indices.to_numpy().astype(np.int64)


def hash_text(text: str) -> int:
    """Return a 64-bit hash of a text; never 0, which stands for nothing."""
    return xxhash.xxh64_intdigest(encode_shopper(text)) or 1
