"""A registry's address, looked at before MLflow gets it, which tries a misspelt one for minutes."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from endcap.addresses import split_server
from endcap.errors import UserError
from endcap.redaction import HIDDEN
from endcap.secrets import read_variable

REGISTRY = "ENDCAP_REGISTRY"
"""The environment variable that holds a registry's address."""
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""Those that MLflow keeps a registry in."""
_SQLITE = ("timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements", "uri")
_EXAMPLES = "http://mlflow:5000, sqlite:////folder/mlflow.db or postgresql://HOST/DATABASE"


def resolve_registry_url(address: str = "") -> str:
    """Return the given address, else that of ENDCAP_REGISTRY; an empty text means the store's own registry."""
    return address or read_variable(REGISTRY)


def check_address(uri: str) -> None:
    """Check that MLflow can use an address, without connecting to it.

    Raises
    ------
    UserError
        The address is malformed or is not one of a registry (`registry.address-malformed`), or its data base's driver
        is not installed (`registry.no-driver`). The message shows no credentials.
    """
    scheme, separator, _ = uri.partition("://")
    base, _, driver = scheme.partition("+")
    if base in SERVERS and not driver and separator:
        _check_server(uri)
    elif base in DATABASES and separator:
        _check_database(uri)
    elif base not in _list_plugin_schemes():
        shown = f"{scheme}://{HIDDEN}" if separator else HIDDEN if "@" in uri else uri
        raise _make_malformed_error(shown, "it is the address of neither a server nor a data base")


def _check_server(uri: str) -> None:
    try:
        parts = split_server(uri)
    except ValueError as error:
        raise _make_malformed_error(f"{uri.partition('://')[0]}://{HIDDEN}", f"found {error}") from None
    if not parts.hostname and parts.scheme in SERVERS:
        raise _make_malformed_error(uri, "found no host")


def _check_database(uri: str) -> None:
    from sqlalchemy import exc, make_url

    scheme = uri.partition("://")[0]
    if not scheme.startswith("sqlite"):
        _check_server(uri)
    try:
        url = make_url(uri)
        dialect: Any = url.get_dialect()()
        driver = dialect.import_dbapi()
    except exc.NoSuchModuleError:
        raise _make_driver_error(scheme, scheme.partition("+")[2] or scheme) from None
    except ImportError as error:
        raise _make_driver_error(scheme, error.name or str(error)) from None
    except (exc.ArgumentError, ValueError):  # their texts quote the address
        raise _make_malformed_error(f"{scheme}://{HIDDEN}", "it cannot be read") from None
    shown = uri.partition("?")[0]
    unknown = sorted(set(url.query) - set(_SQLITE))
    # SQLAlchemy passes over them, with `uri` it hands them to SQLite.
    if scheme.startswith("sqlite") and "uri" not in url.query and unknown:
        raise _make_malformed_error(
            shown, f"found the unknown option {unknown[0]}; options are {', '.join(_SQLITE)}", option=unknown[0]
        )
    try:
        _, options = dialect.create_connect_args(url)
        if driver.__name__ == "psycopg":
            driver.conninfo.make_conninfo("", **options)
    except (exc.ArgumentError, TypeError, ValueError):
        raise _make_malformed_error(shown, "found a wrong value of an option") from None
    except driver.Error as error:
        raise _make_malformed_error(shown, str(error).strip()) from None


def _list_plugin_schemes() -> set[str]:
    """Schemes that MLflow has from elsewhere."""
    return {"databricks", "databricks-uc"} | {
        plugin.name for plugin in entry_points(group="mlflow.model_registry_store")
    }


def _make_malformed_error(shown: str, what: str, **fields: str) -> UserError:
    return UserError(
        f"registry {shown}: {what}. Allowed: an address such as {_EXAMPLES}",
        code="registry.address-malformed",
        registry=shown,
        **fields,
    )


def _make_driver_error(scheme: str, module: str) -> UserError:
    hint = "postgresql:// takes the one that Endcap brings" if scheme.startswith("postgresql") else "install it"
    return UserError(
        f"registry {scheme}://{HIDDEN}: its driver {module} is not installed here; {hint}. Allowed: an address such as "
        f"{_EXAMPLES}",
        code="registry.no-driver",
        scheme=scheme,
        module=module,
    )
