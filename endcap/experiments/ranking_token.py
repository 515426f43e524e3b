"""Ranking ids that say which version answered whom, by which split: an impression needs no log to be attributed.

A ranking id is a token, a full stop and the ranking's number in its request. The token is opaque to clients: base64url
of a fixed layout with a checksum, which is keyed where the operator sets a key. It holds no id of a request and no id
of a shopper.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from endcap.errors import DataError, UserError
from endcap.experiments.splits import CHALLENGERS, Challenger, TrafficSplit, encode_shopper
from endcap.secrets import read_variable

Answerer = Literal["model", "fallback", "batch", "popularity"]
TokenArm = Literal["none", "stable", "canary", "previous", "baseline", "shadow", Challenger]
TokenFault = Literal["no-token", "damaged", "forged"]

KEY = "ENDCAP_TOKEN_KEY"
"""The variable with the key. Several keys are separated by commas: the first signs, and all verify."""
SHORTEST_KEY = 16
ARM_NAMES: tuple[TokenArm, ...] = ("none", "stable", "canary", "previous", "baseline", "shadow", *CHALLENGERS)
ANSWERERS: tuple[Answerer, ...] = ("model", "fallback", "batch", "popularity")
LONGEST_VERSION = 63
_USUAL, _OF_AB = 1, 2
"""The formats: with the weights of canary, previous version and baseline, and of an A/B test."""
_HEAD = struct.Struct(">BBB Q 6s")
"""Format, arm, answerer, time, salt id. The shares follow, then `_TAIL`, the version's name and the checksum."""
_SHARES = struct.Struct(">3s 3s 3s")
"""The weights of canary, previous version and baseline."""
_AB_SHARES = struct.Struct(">6s 3s B")
"""Of an A/B test: layout id, the baseline's weight, and the number of challengers, whose weights follow."""
_WEIGHT = 3
_TAIL = struct.Struct(">10s 6s")
"""Shopper, nonce."""
_CHECKSUM = 8
_NONCE = 6
_PSEUDONYM = 10
NOBODY = bytes(_PSEUDONYM)
"""In the place of a shopper's pseudonym: the request named no shopper."""
_NO_SALT = "0" * 12
_ID = re.compile(r"([A-Za-z0-9_-]{1,180})\.(\d{1,6})")


@dataclass(frozen=True)
class RankingToken:
    """What a ranking id says.

    Attributes
    ----------
    version
        The registered version that answered; empty if none did.
    arm
        The arm that the gateway chose for the shopper; `none` without a gateway.
    answerer
        What made the list: the version's model, the gateway's list, the version's batch lists, or popularity.
    split
        The shares of that moment; None without a gateway, or if the request named no shopper.
    shopper
        The shopper's pseudonym: 20 hexadecimal digits; None if the request named nobody.
    time
        When the ranking was made: milliseconds since 1970, UTC.
    nonce
        6 bytes that are the same for all tries of one request.
    """

    version: str
    arm: TokenArm
    answerer: Answerer
    split: TrafficSplit | None
    shopper: str | None
    time: int
    nonce: bytes


class TokenSigner:
    """Writes and reads the ranking ids of one recommender.

    Parameters
    ----------
    recommender
        Its name. A token of another recommender does not verify.
    keys
        The keys; the first signs. Empty: the checksum shows damage, and anyone could make a token.

    Raises
    ------
    UserError
        A key is shorter than `SHORTEST_KEY` bytes.
    """

    def __init__(self, recommender: str, keys: Sequence[bytes] = ()) -> None:
        for key in keys:
            if len(key) < SHORTEST_KEY:
                raise UserError(
                    f"{KEY}: found {len(key)} characters; allowed: at least {SHORTEST_KEY}, such as "
                    "`openssl rand -hex 32` prints",
                    code="experiments.token-key-short",
                    variable=KEY,
                    least=SHORTEST_KEY,
                )
        self.is_keyed = bool(keys)
        # The recommender is a part of each key, so that nothing can be carried from one to another.
        self._keys = [_derive(key, recommender) for key in (keys or (b"",))]

    @classmethod
    def from_environment(cls, recommender: str) -> TokenSigner:
        """Make a signer with the keys of the variable `ENDCAP_TOKEN_KEY`. Raises UserError for a short key."""
        text = read_variable(KEY)
        return cls(recommender, [key.strip().encode() for key in text.split(",") if key.strip()])

    def name_shopper(self, shopper: str) -> str:
        """Return the pseudonym of a shopper: 20 hexadecimal digits of keyed BLAKE2b."""
        return self._pseudonym(shopper, self._keys[0])

    def is_of(self, token: RankingToken, shopper: str) -> bool:
        """Tell whether a token was made for this shopper. It is false if another shopper's token is sent again."""
        return token.shopper is not None and any(token.shopper == self._pseudonym(shopper, key) for key in self._keys)

    def write(
        self,
        version: str,
        arm: TokenArm,
        answerer: Answerer,
        *,
        split: TrafficSplit | None = None,
        shopper: str | None = None,
        time: int,
        request: str = "",
    ) -> str:
        """Write a token, to which a full stop and the ranking's number are to be added.

        Parameters
        ----------
        version, arm, answerer, split, time
            As in `RankingToken`.
        shopper
            The shopper's id; None if the request names nobody.
        request
            The id of the HTTP request. The token holds a short hash of it, so a second try of a request, and the copy
            that a shadow gets, have the same nonce. Empty: the nonce is random.

        Returns
        -------
        str
            At most 180 characters of ``[A-Za-z0-9_-]``.
        """
        head = _HEAD.pack(
            _OF_AB if split and split.layout_id else _USUAL,
            ARM_NAMES.index(arm),
            ANSWERERS.index(answerer),
            time,
            bytes.fromhex(split.salt_id if split else _NO_SALT),
        )
        tail = _TAIL.pack(
            bytes.fromhex(self.name_shopper(shopper)) if shopper else NOBODY,
            hash_request(request) if request else os.urandom(_NONCE),
        )
        content = head + _pack_shares(split) + tail + version[:LONGEST_VERSION].encode()
        return base64.urlsafe_b64encode(content + _checksum(content, self._keys[0])).rstrip(b"=").decode()

    def read(self, ranking_id: str) -> RankingToken | TokenFault:
        """Read a ranking id.

        Returns
        -------
        RankingToken or str
            ``no-token`` for an id of another shape, such as an older release's; ``damaged`` if its content cannot be
            read; ``forged`` if the checksum is not of one of the keys.
        """
        match = _ID.fullmatch(ranking_id)
        if match is None:
            return "no-token"
        text = match[1]
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            return "no-token"
        if not raw or raw[0] not in (_USUAL, _OF_AB):
            return "no-token"
        content, checksum = raw[:-_CHECKSUM], raw[-_CHECKSUM:]
        if len(content) < _HEAD.size + _SHARES.size + _TAIL.size:
            return "damaged"
        if not any(hmac.compare_digest(checksum, _checksum(content, key)) for key in self._keys):
            return "forged"
        return _parse(content)

    @staticmethod
    def _pseudonym(shopper: str, key: bytes) -> str:
        return hashlib.blake2b(
            encode_shopper(shopper), digest_size=_PSEUDONYM, key=key, person=b"endcap-shopper"
        ).hexdigest()


def _pack_shares(split: TrafficSplit | None) -> bytes:
    if split is not None and split.layout_id:
        of_ab = _AB_SHARES.pack(bytes.fromhex(split.layout_id), _pack_weight(split.baseline), len(split.challengers))
        return of_ab + b"".join(map(_pack_weight, split.challengers))
    weights = (split.canary, split.previous, split.baseline) if split else (0, 0, 0)
    return _SHARES.pack(*map(_pack_weight, weights))


def _pack_weight(weight: int) -> bytes:
    return weight.to_bytes(_WEIGHT, "big")


def _parse(content: bytes) -> RankingToken | TokenFault:
    form, arm, answerer, time, salt = _HEAD.unpack_from(content)
    try:
        split, end = (_read_ab_shares if form == _OF_AB else _read_shares)(salt.hex(), content)
        shopper, nonce = _TAIL.unpack_from(content, end)
        return RankingToken(
            content[end + _TAIL.size :].decode("ascii"),
            ARM_NAMES[arm],
            ANSWERERS[answerer],
            split if salt.hex() != _NO_SALT else None,
            shopper.hex() if shopper != NOBODY else None,
            time,
            nonce,
        )
    except (IndexError, ValueError, struct.error, DataError):
        # Only whoever has the key can write such a token.
        return "damaged"


def _read_shares(salt_id: str, content: bytes) -> tuple[TrafficSplit, int]:
    """Read the weights of canary, previous version and baseline. Returns also where they end."""
    weights = (int.from_bytes(weight, "big") for weight in _SHARES.unpack_from(content, _HEAD.size))
    return TrafficSplit(salt_id, *weights), _HEAD.size + _SHARES.size


def _read_ab_shares(salt_id: str, content: bytes) -> tuple[TrafficSplit, int]:
    """Read the shares of an A/B test. Returns also where they end."""
    layout_id, baseline, count = _AB_SHARES.unpack_from(content, _HEAD.size)
    start = _HEAD.size + _AB_SHARES.size
    weights = struct.unpack_from(f"{_WEIGHT}s" * count, content, start)
    split = TrafficSplit(
        salt_id,
        baseline=int.from_bytes(baseline, "big"),
        layout_id=layout_id.hex(),
        challengers=tuple(int.from_bytes(weight, "big") for weight in weights),
    )
    return split, start + _WEIGHT * count


def hash_request(request: str) -> bytes:
    """Return the nonce of a request's id: 6 bytes."""
    return hashlib.blake2b(request.encode(), digest_size=_NONCE, person=b"endcap-nonce").digest()


def _derive(key: bytes, recommender: str) -> bytes:
    return hashlib.blake2b(recommender.encode(), digest_size=32, key=key[:64], person=b"endcap-token").digest()


def _checksum(content: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECKSUM, key=key, person=b"endcap-check").digest()
