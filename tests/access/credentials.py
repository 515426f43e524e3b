"""Policies, keys and tokens that the tests make."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from endcap_serving.gateway.access.policy import Policy, read_policy

ISSUER, AUDIENCE = "https://login.example.com/realms/shop", "endcap"


def hash_key(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def make_policy(**document: Any) -> Policy:
    return read_policy(json.dumps(document).encode())


def make_client(name: str, *keys: str, scopes: tuple[str, ...] = ("rank",), **more: Any) -> dict[str, Any]:
    return {"name": name, "keys": [hash_key(key) for key in keys], "scopes": list(scopes), **more}


class Signer:
    """An issuer's private key, and the public one as a JWKS."""

    def __init__(self, kid: str = "k1") -> None:
        self._kid = kid
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        numbers = self._key.public_key().public_numbers()
        modulus, exponent = (
            encode_base64(value.to_bytes((value.bit_length() + 7) // 8)) for value in (numbers.n, numbers.e)
        )
        self.public = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": modulus, "e": exponent}

    def token(self, *, alg: str = "RS256", **claims: Any) -> str:
        """Valid for an hour, unless the claims say otherwise; a claim of None is left out."""
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "scope": "rank", "exp": int(time.time()) + 3600}
        body = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        signed = ".".join(encode_base64(json.dumps(part).encode()) for part in ({"alg": alg, "kid": self._kid}, body))
        match alg:
            case "none":
                signature = b""
            case "HS256":
                signature = hmac.new(self.public["n"].encode(), signed.encode(), "sha256").digest()
            case _:
                signature = self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
        return f"{signed}.{encode_base64(signature)}"


def encode_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
