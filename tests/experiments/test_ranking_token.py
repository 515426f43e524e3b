"""Ranking ids that say which version answered whom."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import UserError
from endcap.experiments.layout import Layout
from endcap.experiments.ranking_token import (
    ANSWERERS,
    ARM_NAMES,
    KEY,
    LONGEST_VERSION,
    Answerer,
    RankingToken,
    TokenArm,
    TokenSigner,
    hash_request,
)
from endcap.experiments.splits import TrafficSplit, hash_salt
from tests.refusals import refused

SIGNER = TokenSigner("home", [b"k" * 16])
SPLIT = TrafficSplit(hash_salt("salt"), 10_000, 0, 50_000)
AB_SPLIT = Layout.begin({"stable": 300_000, "challenger-1": 100_000, "challenger-7": 600_000}).split(
    hash_salt("salt"), 50_000
)
NOW = 1_790_000_000_000
VERSIONS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)


def make_token(signer: TokenSigner = SIGNER, shopper: str | None = "anna", version: str = "7") -> str:
    return signer.write(version, "canary", "model", split=SPLIT, shopper=shopper, time=NOW) + ".0"


@given(
    version=VERSIONS,
    arm=st.sampled_from(ARM_NAMES),
    answerer=st.sampled_from(ANSWERERS),
    shopper=st.none() | st.text(min_size=1, max_size=40),
    time=st.integers(0, 2**63),
    split=st.sampled_from([SPLIT, AB_SPLIT, replace(AB_SPLIT, challengers=()), None]),
)
@settings(max_examples=300)
def test_what_is_written_is_read(
    version: str, arm: TokenArm, answerer: Answerer, shopper: str | None, time: int, split: TrafficSplit | None
) -> None:
    text = SIGNER.write(version, arm, answerer, split=split, shopper=shopper, time=time, request="r-1") + ".12"
    assert re.fullmatch(r"[A-Za-z0-9_-]+\.12", text) is not None
    assert len(text) <= 200
    pseudonym = SIGNER.name_shopper(shopper) if shopper else None
    assert SIGNER.read(text) == RankingToken(version, arm, answerer, split, pseudonym, time, hash_request("r-1"))


@pytest.mark.parametrize("split", [SPLIT, AB_SPLIT])
def test_the_longest_version_leaves_room_for_the_longest_number(split: TrafficSplit) -> None:
    version = "v" * LONGEST_VERSION
    text = SIGNER.write(version, "stable", "model", split=split, shopper="anna", time=NOW) + ".999999"
    token = SIGNER.read(text)
    assert isinstance(token, RankingToken)
    assert (token.version, len(text) <= 200) == (version, True)


def test_a_token_without_an_ab_test_is_as_earlier_releases_wrote_it() -> None:
    # Written by the release before A/B tests.
    text = "AQIAAAABoMRQbABbpX413yEAJxAAAAAAw1B3Uh8qrUj63P4sAsMwEvjwN3dZTdxCwb1H.3"
    token = SIGNER.read(text)
    assert isinstance(token, RankingToken)
    assert (token.version, token.arm, token.split) == ("7", "canary", SPLIT)
    written = SIGNER.write("7", "canary", "model", split=SPLIT, shopper="anna", time=NOW, request="r-1")
    assert f"{written}.3" == text


def test_a_token_belongs_to_its_shopper_and_to_its_recommender() -> None:
    token = SIGNER.read(make_token())
    assert isinstance(token, RankingToken)
    assert SIGNER.is_of(token, "anna")
    assert not SIGNER.is_of(token, "berta")
    assert TokenSigner("basket", [b"k" * 16]).read(make_token()) == "forged"
    nobodys = SIGNER.read(make_token(shopper=None))
    assert isinstance(nobodys, RankingToken)
    assert not SIGNER.is_of(nobodys, "anna")


def test_every_changed_bit_is_noticed() -> None:
    text = make_token()
    body = text.removesuffix(".0")
    changed = [body[:at] + ("A" if body[at] != "A" else "B") + body[at + 1 :] for at in range(len(body))]
    # The first letters hold the format; the last may hold bits that stand for nothing.
    assert {SIGNER.read(f"{each}.0") for each in changed[2:-1]} == {"forged"}
    assert {type(SIGNER.read(f"{each}.0")) for each in changed[:2]} == {str}


@pytest.mark.parametrize(
    "text", ["", "x", "0b7e4f9a-1f0c-4d0a-8c74-1d2f3a4b5c6d.0", "a.b.c", "ä.0", "AAAA.0", "." * 300, "A" * 300 + ".0"]
)
def test_ids_of_another_shape_hold_no_token(text: str) -> None:
    assert SIGNER.read(text) in ("no-token", "damaged")


@pytest.mark.parametrize("split", [SPLIT, AB_SPLIT])
def test_a_cut_token_is_damaged_or_forged(split: TrafficSplit) -> None:
    body = SIGNER.write("7", "canary", "model", split=split, shopper="anna", time=NOW)
    faults = {SIGNER.read(f"{body[:length]}.0") for length in range(4, len(body), 4)}
    assert faults <= {"damaged", "forged"}


def test_keys_are_rotated_without_losing_what_the_old_one_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = b"old-key-of-16-by", b"new-key-of-16-by"
    before = make_token(TokenSigner("home", [old]))
    monkeypatch.setenv(KEY, f"{new.decode()}, {old.decode()}\n")
    signer = TokenSigner.from_environment("home")
    token = signer.read(before)
    assert isinstance(token, RankingToken)
    assert signer.is_of(token, "anna")
    assert TokenSigner("home", [new]).read(before) == "forged"
    assert TokenSigner("home", [old]).read(make_token(signer)) == "forged"


def test_a_short_key_is_refused_and_without_a_key_damage_is_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(UserError, "experiments.token-key-short", variable=KEY, least=16):
        TokenSigner("home", [b"short"])
    monkeypatch.delenv(KEY, raising=False)
    signer = TokenSigner.from_environment("home")
    assert not signer.is_keyed
    assert isinstance(signer.read(make_token(signer)), RankingToken)
    assert signer.read(make_token(signer)[5:]) in ("no-token", "damaged", "forged")
