"""The access policy: a document with the clients, their keys or tokens, and what each client may do.

The document has keys as SHA-256 hashes. So nobody who reads it, or Envoy's configuration, can use a key. A key must be
random (docs/access.md makes one), because a hash protects only keys that nobody can guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from endcap.errors import UserError

Scope = Literal["rank", "events", "explain", "owned"]
SCOPES: tuple[Scope, ...] = ("rank", "events", "explain", "owned")
MOST_BYTES = 1 << 20
"""The largest policy, in bytes. A Secret cannot hold more."""
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_HASH = r"^sha256:[0-9a-f]{64}$"
_WORD = r"^[\x21-\x7e]{1,1024}$"
_URI = re.compile(r"https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?")
_BASE64 = re.compile(r"[A-Za-z0-9_-]{1,4096}")
_KEY_PARTS: Mapping[tuple[object, object], tuple[str, ...]] = {
    ("RSA", None): ("n", "e"),
    ("EC", "P-256"): ("x", "y"),
    ("EC", "P-384"): ("x", "y"),
    ("EC", "P-521"): ("x", "y"),
    ("OKP", "Ed25519"): ("x",),
}
"""The members of a public key in a JWKS that Envoy needs, by `kty` and `crv` (RFC 7518, RFC 8037)."""
_RECOMMENDER = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

Recommenders = list[Annotated[str, Field(pattern=_RECOMMENDER)]]
Claim = str | list[str]
"""A claim's name, or the names that lead to it: ``[realm_access, roles]``."""


class _PolicyPart(BaseModel):
    """Refuses unknown keys and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Rate(_PolicyPart):
    """A token bucket: it gets `perSecond` requests a second, and holds at most `burst` of them."""

    perSecond: Annotated[int, Field(ge=1, le=1_000_000)]  # noqa: N815 (as in the document)
    burst: Annotated[int, Field(ge=1, le=10_000_000)]


class AccessClient(_PolicyPart):
    """A client with keys. Several keys are valid at a time, so that a new key can replace an old one without a gap."""

    name: Annotated[str, Field(pattern=_NAME)]
    keys: Annotated[list[Annotated[str, Field(pattern=_HASH)]], Field(max_length=16)]
    scopes: list[Scope]
    recommenders: Recommenders | None = None
    """The recommenders that the client may ask; left out: all. The intake's paths belong to no recommender."""
    rate: Rate | None = None


class Claims(_PolicyPart):
    """The claims of a token that name its owner and say what the owner may do. A missing claim allows nothing."""

    client: Claim = "sub"
    scopes: Claim = "scope"
    """The claim holds a text of scopes with spaces between them, or a list."""
    recommenders: Claim | None = None
    """Left out: the issuer's `recommenders` count for every token."""


def _read_port(uri: str) -> int | None:
    """Return an address' port; None: it names none; -1: it is no port."""
    try:
        return urlsplit(uri).port
    except ValueError:
        return -1


def _is_base64(value: object) -> bool:
    return isinstance(value, str) and _BASE64.fullmatch(value) is not None


class Jwks(_PolicyPart):
    """An issuer's public keys: in the document itself (`keys`), or at an address that Envoy asks (`uri`)."""

    keys: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    uri: str | None = None
    cacheSeconds: Annotated[int, Field(ge=1, le=86_400)] = 300  # noqa: N815

    @model_validator(mode="after")
    def _check_keys(self) -> Jwks:
        if (self.keys is None) == (self.uri is None):
            raise ValueError("found both or neither of keys and uri; allowed: exactly one of them")
        if self.uri is not None and not (_URI.fullmatch(self.uri) and 0 < (_read_port(self.uri) or 1) < 2**16):
            raise ValueError(
                "uri: found something else; allowed: an address such as https://login.example.com/realms/shop/certs"
            )
        for key in self.keys or ():
            members = _KEY_PARTS.get((key.get("kty"), key.get("crv")))
            if members is None or not all(_is_base64(key.get(member)) for member in members):
                raise ValueError(
                    "keys: found another kind of key, or half of one; allowed: public keys of RSA, EC (P-256 to P-521) "
                    "or Ed25519, as the issuer's JWKS has them"
                )
            if "d" in key:
                raise ValueError(
                    "keys: found a private key; allowed: public keys; make a new key, as others may have read this one"
                )
        return self


class Issuer(_PolicyPart):
    """An issuer whose tokens are valid. A token must name one of `audiences`, because an issuer serves others too."""

    issuer: Annotated[str, Field(pattern=_WORD)]
    audiences: Annotated[list[Annotated[str, Field(pattern=_WORD)]], Field(min_length=1)]
    jwks: Jwks
    claims: Claims = Claims()
    recommenders: Recommenders | None = None
    rate: Rate | None = None


class Policy(_PolicyPart):
    """Who may do what. `anonymous`: the scopes of requests with neither key nor token."""

    anonymous: list[Scope] = []
    clients: list[AccessClient] = []
    issuers: list[Issuer] = []

    @model_validator(mode="after")
    def _check_distinct(self) -> Policy:
        names = [client.name for client in self.clients]
        keys = [key for client in self.clients for key in client.keys]
        issuers = [issuer.issuer for issuer in self.issuers]
        for name, values in (("name", names), ("key", keys), ("issuer", issuers)):
            if len(set(values)) < len(values):
                raise ValueError(f"found the same {name} twice; allowed: each {name} once")
        return self

    @property
    def has_credentials(self) -> bool:
        """Whether any client can have a key or a token. If none can, all requests are anonymous."""
        return bool(self.clients or self.issuers)


EVERYTHING = Policy(anonymous=list(SCOPES))
"""The policy of a gateway on a machine's own loopback."""
RANKINGS = Policy(anonymous=["rank"])
"""The policy of a gateway that has no other."""


def read_policy(text: bytes) -> Policy:
    """Read a policy.

    Parameters
    ----------
    text
        A document in YAML or JSON.

    Returns
    -------
    Policy
        The policy.

    Raises
    ------
    UserError
        If the document is wrong. The message repeats none of its values, because they may be secrets.
    """
    if len(text) > MOST_BYTES:
        raise _make_invalid_error("the document", f"found more than {MOST_BYTES:,} bytes; allowed: at most that many")
    try:
        # An alias would let a short document become a long one.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise _make_invalid_error("the document", "found an alias; allowed: each value written out")
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _make_invalid_error("the document", f"it is no YAML ({type(error).__name__})") from None
    if not isinstance(document, Mapping):
        raise _make_invalid_error(
            "the document", "found no mapping; allowed: a mapping with anonymous, clients, issuers"
        )
    try:
        return Policy.model_validate_json(json.dumps(document))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise _make_invalid_error(
                "the document",
                "found values that JSON does not have, such as dates; allowed: texts, numbers, lists and mappings",
            ) from None
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _make_invalid_error(".".join(map(str, first["loc"])) or "the document", first["msg"]) from None


def _make_invalid_error(place: str, reason: str) -> UserError:
    return UserError(
        f"the access policy cannot be used: {place}: {reason}; correct the document, see docs/access.md",
        code="access.policy-invalid",
        at=place,
        reason=reason,
    )
