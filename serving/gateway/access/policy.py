"""The access policy: a document that says who the clients are, by which keys or tokens, and what each of them may do.

Keys stand in it as SHA-256 hashes, so that whoever reads the document, or what Envoy is told, can use none of them. A
key has to be random (docs/access.md makes one), since its hash protects it only where it cannot be guessed.
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
"""Of a policy; a Secret has no more."""
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
"""Of a public key in a JWKS: what Envoy needs, by `kty` and `crv`."""
_RECOMMENDER = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

Recommenders = list[Annotated[str, Field(pattern=_RECOMMENDER)]]
Claim = str | list[str]
"""A claim's name, or the names on the way to it: ``[realm_access, roles]``."""


class _PolicyPart(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Rate(_PolicyPart):
    """A token bucket: it fills by `perSecond` requests a second, and holds `burst` of them."""

    perSecond: Annotated[int, Field(ge=1, le=1_000_000)]  # noqa: N815 (as in the document)
    burst: Annotated[int, Field(ge=1, le=10_000_000)]


class AccessClient(_PolicyPart):
    """Somebody with keys. Several keys hold at once, so that one follows another without a gap."""

    name: Annotated[str, Field(pattern=_NAME)]
    keys: Annotated[list[Annotated[str, Field(pattern=_HASH)]], Field(max_length=16)]
    scopes: list[Scope]
    recommenders: Recommenders | None = None
    """Left out: all of them. The intake's paths belong to no recommender."""
    rate: Rate | None = None


class Claims(_PolicyPart):
    """Which claims of a token say who its owner is and what he may do. A claim that a token lacks allows nothing."""

    client: Claim = "sub"
    scopes: Claim = "scope"
    """A text of scopes with spaces between them, or a list."""
    recommenders: Claim | None = None
    """Left out: the issuer's `recommenders` hold for every token."""


def _port(uri: str) -> int | None:
    try:
        return urlsplit(uri).port
    except ValueError:
        return -1


def _is_base64(value: object) -> bool:
    return isinstance(value, str) and _BASE64.fullmatch(value) is not None


class Jwks(_PolicyPart):
    """The issuer's public keys: in the document itself (`keys`), or at an address that Envoy asks (`uri`)."""

    keys: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    uri: str | None = None
    cacheSeconds: Annotated[int, Field(ge=1, le=86_400)] = 300  # noqa: N815

    @model_validator(mode="after")
    def _exactly_one(self) -> Jwks:
        if (self.keys is None) == (self.uri is None):
            raise ValueError("found both or neither of keys and uri; allowed: exactly one of them")
        if self.uri is not None and not (_URI.fullmatch(self.uri) and 0 < (_port(self.uri) or 1) < 2**16):
            raise ValueError("uri: allowed: an address such as https://login.example.com/realms/shop/certs")
        for key in self.keys or ():
            needed = _KEY_PARTS.get((key.get("kty"), key.get("crv")))
            if needed is None or not all(_is_base64(key.get(part)) for part in needed):
                raise ValueError(
                    "keys: allowed: public keys as an issuer tells them, of RSA, EC (P-256 to P-521), Ed25519"
                )
            if "d" in key:
                raise ValueError("keys: found a private key; allowed: the public ones")
        return self


class Issuer(_PolicyPart):
    """Somebody whose tokens are taken. `audiences`: a token names one of them, since an issuer serves others too."""

    issuer: Annotated[str, Field(pattern=_WORD)]
    audiences: Annotated[list[Annotated[str, Field(pattern=_WORD)]], Field(min_length=1)]
    jwks: Jwks
    claims: Claims = Claims()
    recommenders: Recommenders | None = None
    rate: Rate | None = None


class Policy(_PolicyPart):
    """anonymous: the scopes of those who bring neither key nor token."""

    anonymous: list[Scope] = []
    clients: list[AccessClient] = []
    issuers: list[Issuer] = []

    @model_validator(mode="after")
    def _all_apart(self) -> Policy:
        names = [client.name for client in self.clients]
        keys = [key for client in self.clients for key in client.keys]
        issuers = [issuer.issuer for issuer in self.issuers]
        for what, values in (("name", names), ("key", keys), ("issuer", issuers)):
            if len(set(values)) < len(values):
                raise ValueError(f"the same {what} stands there twice; allowed: each once")
        return self

    @property
    def has_credentials(self) -> bool:
        """Whether anybody has a key or a token: without, all are anonymous."""
        return bool(self.clients or self.issuers)


EVERYTHING = Policy(anonymous=list(SCOPES))
"""For whoever asks on a machine's own loopback."""
RANKINGS = Policy(anonymous=["rank"])
"""Where nobody has said anything else."""


def read_policy(text: bytes) -> Policy:
    """The policy of a document, YAML or JSON. Raises UserError, whose message repeats no value of the document."""
    if len(text) > MOST_BYTES:
        raise _invalid("the document", f"more than {MOST_BYTES:,} bytes")
    try:
        # An alias would let a short document become a long one.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise _invalid("the document", "an alias")
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _invalid("the document", f"no YAML ({type(error).__name__})") from None
    if not isinstance(document, Mapping):
        raise _invalid("the document", "no mapping")
    try:
        return Policy.model_validate_json(json.dumps(document))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise _invalid("the document", "values that JSON does not have") from None
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _invalid(".".join(map(str, first["loc"])) or "the document", first["msg"]) from None


def _invalid(place: str, reason: str) -> UserError:
    return UserError(
        f"the access policy cannot be used: {place}: {reason}; correct the document, see docs/access.md",
        code="access.policy-invalid",
        at=place,
        reason=reason,
    )
