"""Who or what starts a run, when and why, and of what: the facts that are known before its first step."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from endcap.store import fingerprint

if TYPE_CHECKING:
    from endcap.spec.load import Loaded

Json = dict[str, Any]
COMMAND_LINE, NOTEBOOK, PYTHON, SCHEDULE, KFP = "command line", "notebook", "Python", "schedule", "KFP"
"""How a run is started. KFP: by somebody else's client, or by hand in KFP's pages."""


@dataclass(frozen=True)
class Start:
    """The start of a run; what is not known is empty.

    Parameters
    ----------
    by
        The user.
    how
        Through what: the command line, a notebook, Python, a schedule, or KFP where that is all that is known.
    why
        The reason, in the words of whoever gave one.
    at
        ISO, UTC.
    pipeline, recommender, shop
        What is run, by name.
    spec
        Fingerprint of the resolved documents of both specs.
    files
        The files that these were read from, relative to the recommender's.
    logical_date
        Only events before it count; empty: all.
    data
        Of a run of a schedule, which data it was started for, as far as that is known: their `version`, the `paths` of
        the events, and what came since the run before (`added`, `changed`, `removed`, `names`, `days`).
    page
        Where KFP's pages show runs; the run's id follows it.
    """

    by: str = ""
    how: str = KFP
    why: str = ""
    at: str = ""
    pipeline: str = ""
    recommender: str = ""
    shop: str = ""
    spec: str = ""
    files: tuple[str, ...] = ()
    logical_date: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    page: str = ""

    @classmethod
    def of(
        cls,
        loaded: Loaded,
        pipeline: str,
        *,
        how: str = "",
        why: str = "",
        logical_date: str = "",
        data: Mapping[str, Any] | None = None,
        page: str = "",
    ) -> Start:
        """Make the start of a pipeline with loaded specs, now and by this process's user.

        how: empty: derived from the process.
        """
        from endcap.spec.load import dump_specs

        folder = loaded.files[-1].parent if loaded.files else None
        return cls(
            by=get_user(),
            how=how or (NOTEBOOK if "ipykernel" in sys.modules else PYTHON),
            why=why,
            at=format_now(),
            pipeline=pipeline,
            recommender=loaded.recommender.name,
            shop=loaded.shop.name,
            spec=fingerprint_specs(dump_specs(loaded)),
            files=tuple(os.path.relpath(file, folder) for file in loaded.files),
            logical_date=logical_date,
            data=data or {},
            page=page,
        )

    @classmethod
    def from_text(cls, text: str) -> Start:
        """Parse the pipeline's parameter `trigger`: a JSON object with these fields, or a reason in plain words."""
        try:
            values = json.loads(text) if text else {}
        except ValueError:
            values = None
        if not isinstance(values, dict):
            return cls(why=text)
        known = {own.name for own in fields(cls)}
        values_known = {key: value for key, value in values.items() if key in known}
        return cls(**{**values_known, "files": tuple(values_known.get("files", ()))})

    def to_text(self) -> str:
        """Return the value for the pipeline's parameter `trigger`."""
        return json.dumps({key: value for key, value in asdict(self).items() if value})

    def to_document(self) -> Json:
        """Return the facts as they are stored in the run's document."""
        return {
            "pipeline": self.pipeline,
            "recommender": self.recommender,
            "shop": self.shop,
            "started": {"by": self.by, "how": self.how, "why": self.why, "at": self.at},
            "spec": {"fingerprint": self.spec, "files": list(self.files)},
            "data": {**self.data, "logical_date": self.logical_date},
        }


def fingerprint_specs(documents: Mapping[str, Any]) -> str:
    """Fingerprint resolved specs, as `endcap.spec.load.dump_specs` makes them."""
    return fingerprint(normalise_specs(documents))


def normalise_specs(documents: Mapping[str, Any]) -> Json:
    """Normalise resolved specs, so that they are equal whether or not they went through KFP.

    KFP turns every number of a parameter into a float.
    """
    return {kind: _normalise(documents[kind]) for kind in ("recommender", "shop") if documents.get(kind)}


def _normalise(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _normalise(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normalise(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def get_user() -> str:
    """Return the user of this process. The user of a container often has only a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def format_now() -> str:
    """Format the present time: ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
