"""Where events go, as the variables of OpenLineage's own clients say it.

Source: https://openlineage.io/docs/client/python/configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from endcap.secrets import read_variable

Json = dict[str, Any]
Transport = Callable[[Json], None]
FILE = "openlineage.jsonl"
"""The file in the folder of a run's logs that has the run's events, unless a variable says otherwise."""
_PREFIX = "OPENLINEAGE__TRANSPORT__"
_TIMEOUT = 5.0
"""Seconds for one request."""


def open_transport(folder: Path | None, environment: Mapping[str, str] | None = None) -> Transport | None:
    """Open the way for events.

    Parameters
    ----------
    folder
        The folder of the run's logs on this machine; None in a pod.
    environment
        The variables; this process's environment by default. ``OPENLINEAGE_DISABLED``, ``OPENLINEAGE_URL``,
        ``OPENLINEAGE_ENDPOINT``, ``OPENLINEAGE_API_KEY``, and ``OPENLINEAGE__TRANSPORT__`` with ``TYPE`` (``http``,
        ``file`` or ``console``), ``URL``, ``ENDPOINT``, ``TIMEOUT``, ``AUTH__API_KEY``, ``LOG_FILE_PATH``, ``APPEND``.

    Returns
    -------
    callable or None
        Takes an event, and raises ValueError, OSError or an error of httpx if it cannot be sent. None: no events are
        wanted.

    Raises
    ------
    ValueError
        If a variable has a value that is not allowed. The message names it.
    """

    def read(*names: str) -> str:
        return next(filter(None, (read_variable(name, environment) for name in names)), "")

    if read("OPENLINEAGE_DISABLED").lower() == "true":
        return None
    url = read(f"{_PREFIX}URL", "OPENLINEAGE_URL")
    kind = read(f"{_PREFIX}TYPE") or ("http" if url else "")
    if kind == "http":
        if not url:
            raise ValueError(f"{_PREFIX}URL is not set; allowed: the address of a server, such as http://marquez:5000")
        endpoint = read(f"{_PREFIX}ENDPOINT", "OPENLINEAGE_ENDPOINT") or "api/v1/lineage"
        key = read(f"{_PREFIX}AUTH__API_KEY", f"{_PREFIX}AUTH__APIKEY", "OPENLINEAGE_API_KEY")
        timeout = float(read(f"{_PREFIX}TIMEOUT") or _TIMEOUT)
        return lambda event: _post(f"{url.rstrip('/')}/{endpoint.lstrip('/')}", key, timeout, event)
    if kind == "file":
        path = read(f"{_PREFIX}LOG_FILE_PATH").removeprefix("file://")
        if not path:
            raise ValueError(f"{_PREFIX}LOG_FILE_PATH is not set; allowed: the path of a file")
        appends = read(f"{_PREFIX}APPEND").lower() == "true"
        return lambda event: _append(Path(path) if appends else Path(f"{path}-{_format_moment()}.json"), event)
    if kind == "console":
        return lambda event: print(json.dumps(event), flush=True)
    if kind:
        raise ValueError(f"{_PREFIX}TYPE: found {kind!r}; allowed: http, file, console")
    return None if folder is None else lambda event: _append(folder / FILE, event)


def _append(file: Path, event: Json) -> None:
    # One write, so that lines of steps that run at once do not mix.
    with file.open("ab", buffering=0) as handle:
        handle.write(f"{json.dumps(event)}\n".encode())


def _format_moment() -> str:
    return f"{datetime.now():%Y%m%d-%H%M%S.%f}"


def _post(url: str, key: str, timeout: float, event: Json) -> None:
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # Redirects are not followed: they would take the event, and the key, where nobody named.
    httpx.post(url, json=event, headers=headers, timeout=timeout).raise_for_status()
