"""Variables that may hold a secret, as whoever set them meant them.

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
    """The variable's value without blanks and line breaks around it; empty where it is not set.

    environment: None: this process's. Raises UserError, which names the variable and not its value, where a line break
    or another control character stands inside.
    """
    variables = os.environ if environment is None else environment
    return strip_value(name, variables.get(name, ""))


def strip_value(name: str, value: str) -> str:
    """The same of a value that is known already. name: the variable or option that it comes from."""
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
    """The value of the first variable that is set; empty where none is. Raises as `read_variable` does."""
    return next((value for name in names if (value := read_variable(name, environment))), "")


def locate_mounted(key: str, environment: Mapping[str, str] | None = None, *, folder: str = MOUNT) -> str:
    """The path of a key of a mounted Secret; empty where it has none. folder: the variable that names its folder."""
    at = read_variable(folder, environment)
    return str(Path(at) / key) if at and (Path(at) / key).is_file() else ""


def clean_variables(names: Iterable[str]) -> None:
    """Put the values that `read_variable` gives into this process's environment. What is not set stays so."""
    for name in names:
        if name in os.environ:
            os.environ[name] = read_variable(name)
