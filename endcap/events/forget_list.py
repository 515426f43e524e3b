"""The customers of a shop who are forgotten: ingest leaves their rows out, also where the shop's own log has them.

The list holds a salted hash of each id, not the id. Who has the document can test an id that they know. Where ids are
keyed pseudonyms (`endcap.pseudonyms`), the list holds hashes of these, which nobody can test without the key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from endcap.sources.sql import quote_text
from endcap.store import Store, fingerprint

Json = dict[str, Any]
_BETWEEN = re.compile(r"[\s,;|\t\"']+")
"""What stands between the values of a row that is kept as a text."""
FORGOTTEN = "forgotten"
"""The kind of the documents, and the name of the rule that leaves rows out."""


@dataclass(frozen=True)
class ForgetList:
    """The customers of a shop who are forgotten.

    Attributes
    ----------
    salt
        What ids are hashed with; empty if nobody is forgotten.
    hashes
        SHA-256 of salt and id, in hexadecimal digits.
    replaced
        For keys of parsed units that had rows of such a customer, or that leave some out: the version of the list
        under which the unit is parsed.
    """

    salt: str = ""
    hashes: frozenset[str] = frozenset()
    replaced: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.hashes)

    @property
    def version(self) -> str:
        """A fingerprint of who is on the list; empty if nobody is."""
        return fingerprint(self.salt, sorted(self.hashes)) if self.hashes else ""

    @cached_property
    def present_keys(self) -> frozenset[str]:
        """The keys of units that are parsed under the present version."""
        present = self.version
        return frozenset(_make_key(key, version) for key, version in self.replaced.items() if version == present)

    def covers(self, customer: str) -> bool:
        """Tell whether a customer is on the list."""
        return bool(self.hashes) and hash_customer(self.salt, customer) in self.hashes

    def covers_text(self, text: str) -> bool:
        """Tell whether a text that is no row has a value of somebody on the list."""
        return bool(self.hashes) and any(self.covers(value) for value in _BETWEEN.split(text))

    def match_sql(self, column: str) -> str:
        """Return SQL that holds where a column of ids names somebody on the list, which must not be empty."""
        listed = ", ".join(map(quote_text, sorted(self.hashes)))
        return f"sha256(concat({quote_text(self.salt)}, {column})) IN ({listed})"

    def replace_key(self, key: str) -> str:
        """Return the key under which a unit is kept: its own, or another if the list changed its rows."""
        while version := self.replaced.get(key):
            key = _make_key(key, version)
        return key


NOBODY = ForgetList()


def hash_customer(salt: str, customer: str) -> str:
    """Hash a customer's id as the list does."""
    return hashlib.sha256(f"{salt}{customer}".encode()).hexdigest()


def read_forget_list(store: Store, shop: str) -> ForgetList:
    """Read the list of a shop; it is empty if there is none."""
    document = store.read_document(name_forget_list(shop))
    return _parse(document) if document else NOBODY


@dataclass(frozen=True)
class ForgetRequest:
    """A request by which customers are forgotten. request: its name; since: when the last of them was listed (UTC)."""

    request: str
    since: datetime


def add_forgotten(
    store: Store, shop: str, customers: Iterable[str], *, why: str = ""
) -> tuple[ForgetList, ForgetRequest]:
    """Add customers to the list of a shop. Those who are on it stay as they are.

    Parameters
    ----------
    store, shop
        The store, and the shop's name.
    customers
        Ids as ingest writes them.
    why
        The reason, which the list keeps.

    Returns
    -------
    ForgetList
        The list.
    ForgetRequest
        The request. The same customers give the same one.
    """
    listed = sorted(set(customers))

    def add(document: Json | None) -> Json:
        known = document or {"salt": secrets.token_hex(16), "customers": {}, "replaced": {}}
        hashes = [hash_customer(known["salt"], customer) for customer in listed]
        if document and not set(hashes) - known["customers"].keys():
            return document
        entry = {"since": datetime.now(UTC).isoformat(), "request": _name_request(hashes), "why": why}
        return {**known, "customers": dict.fromkeys(hashes, entry) | known["customers"]}

    document = store.update_document(name_forget_list(shop), add)
    hashes = [hash_customer(document["salt"], customer) for customer in listed]
    since = max(datetime.fromisoformat(document["customers"][hashed]["since"]) for hashed in hashes)
    return _parse(document), ForgetRequest(_name_request(hashes), since)


def replace_units(store: Store, shop: str, keys: Collection[str], version: str) -> None:
    """Note that units are parsed anew under a version of the list, so that they get keys of their own.

    Parameters
    ----------
    store, shop
        The store, and the shop's name.
    keys
        Keys that units have now.
    version
        The list's version.
    """

    def note(document: Json | None) -> Json:
        assert document is not None, "there is no list"
        if not set(keys) - document["replaced"].keys():
            return document
        return {**document, "replaced": dict.fromkeys(keys, version) | document["replaced"]}

    if keys:
        store.update_document(name_forget_list(shop), note)


def keep_by_outcome(store: Store, shop: str, key: str, counts: Json, forgotten: ForgetList) -> str:
    """Return the key for parsed rows: another one if rows of customers who are forgotten were left out.

    So the same key never means both the rows with them and the rows without.

    Parameters
    ----------
    store, shop, key
        The store, the shop's name, and the key that the rows would have.
    counts
        What the quarantine exported.
    forgotten
        The list by which the rows were read.
    """
    if not counts["left_out"].get(FORGOTTEN) or key in forgotten.present_keys:
        return key
    replace_units(store, shop, [key], forgotten.version)
    return _make_key(key, forgotten.version)


def name_forget_list(shop: str) -> str:
    """Return the name of the document that holds a shop's list."""
    return f"{FORGOTTEN}/{shop}"


def _name_request(hashes: Iterable[str]) -> str:
    return f"forget-{fingerprint(list(hashes))[:12]}"


def _make_key(key: str, version: str) -> str:
    return fingerprint(key, FORGOTTEN, version)


def _parse(document: Json) -> ForgetList:
    return ForgetList(document["salt"], frozenset(document["customers"]), document["replaced"])
