"""The address of KFP's API, checked before it is used."""

from endcap.addresses import split_server
from endcap.errors import UserError


def check_host(host: str | None) -> None:
    """Raise UserError for a malformed address, and for credentials in it.

    KFP's client does not send these, and they would stand in each link to a run and in its record.
    """
    if not host:
        return
    try:
        parts = split_server(host if "://" in host else f"http://{host}")
    except ValueError as error:
        raise _malformed(f"found {error}") from None
    if "@" in parts.netloc:
        raise UserError(
            "--kfp-host: the address has a user or a password, which each link to a run would show. Give the address "
            "without them, and give a token by KFP_EXISTING_TOKEN (--kfp-token)",
            code="kfp.password-shown",
            option="--kfp-host",
            variable="KFP_EXISTING_TOKEN",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _malformed(f"found {host}")


def _malformed(what: str) -> UserError:
    return UserError(
        f"--kfp-host: {what}; allowed: the address of KFP's API, such as https://kfp.example.com/pipeline",
        code="kfp.host-malformed",
        option="--kfp-host",
    )
