"""Read environment variables that may hold a secret, without stray line breaks.

A Kubernetes Secret that is made from a file ends in the file's line break, and so does what a CI system pastes. With it
a password is another password, and a token breaks the header that carries it. `read_variable` is the only function that
reads such a variable; `clean_variables` serves the libraries that read theirs themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from endcap.errors import UserError

MLFLOW = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""What MLflow's client shows to a server; in a cluster, keys of the store's Secret."""
AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
KFP = (
    "KF_PIPELINES_ENDPOINT",
    "KF_PIPELINES_UI_ENDPOINT",
    "KF_PIPELINES_IAP_OAUTH2_CLIENT_ID",
    "KF_PIPELINES_APP_OAUTH2_CLIENT_ID",
    "KF_PIPELINES_APP_OAUTH2_CLIENT_SECRET",
)
"""What KFP's client reads itself."""
MOUNT = "ENDCAP_S3_SECRET"
"""A folder with the keys of the store's Secret as files, certificates among them."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def read_variable(name: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a variable's value without the blanks and line breaks around it; empty if it is not set.

    Parameters
    ----------
    name
        The variable's name.
    environment
        The variables; this process's environment by default.

    Raises
    ------
    UserError
        The value has a line break or another control character inside. The error names the variable, not its value.
    """
    variables = os.environ if environment is None else environment
    return strip_value(name, variables.get(name, ""))


def strip_value(name: str, value: str) -> str:
    """Do the same with a value. name: the variable or option that it comes from."""
    value = value.strip()
    if _CONTROL.search(value):
        raise UserError(
            f"{name}: its value has a line break, a tab or another control character inside; allowed: one line. Look "
            "at the Secret or the file that it comes from",
            code="secrets.control-character",
            variable=name,
        )
    return value


def read_first(names: Iterable[str], environment: Mapping[str, str] | None = None) -> str:
    """Return the value of the first variable that is set; empty if none is. Raises as `read_variable` does."""
    return next((value for name in names if (value := read_variable(name, environment))), "")


def locate_mounted(key: str, environment: Mapping[str, str] | None = None, *, folder: str = MOUNT) -> str:
    """Return the path of a mounted Secret's key; empty if it has none. folder: the variable that names its folder."""
    at = read_variable(folder, environment)
    return str(Path(at) / key) if at and (Path(at) / key).is_file() else ""


def clean_variables(names: Iterable[str]) -> None:
    """Replace the variables of this process's environment by what `read_variable` returns. Unset ones stay unset."""
    for name in names:
        if name in os.environ:
            os.environ[name] = read_variable(name)
