"""How a pod learns that it was given GPUs: whoever renders it sets one environment variable from the spec."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from endcap.errors import UserError

VARIABLE = "ENDCAP_GPU"
"""JSON with the fields of `Request`. Where it is unset no GPU was given, and one that is there may be used."""
Fallback = Literal["none", "cpu"]


class Given(Protocol):
    """A spec's `gpu`."""

    @property
    def count(self) -> int: ...

    @property
    def resource(self) -> str: ...

    @property
    def fallback(self) -> Fallback: ...


@dataclass(frozen=True)
class Request:
    """GPUs of a pod. count: at least 1. resource: as nodes offer it, such as nvidia.com/gpu. fallback: what is done
    where none is seen, `none`: it stops; `cpu`: it warns and goes on."""

    count: int
    resource: str = "nvidia.com/gpu"
    fallback: Fallback = "none"

    def __str__(self) -> str:
        return f"{self.count} {self.resource}"

    @property
    def vendor(self) -> str | None:
        """`nvidia`, `amd` or `intel`; None where the resource's name does not say it."""
        domain = self.resource.partition("/")[0]
        return next((name for name in ("nvidia", "amd", "intel") if name in domain.split(".")), None)

    @property
    def is_whole(self) -> bool:
        """Whether each of `count` is a device of its own: of parts (MIG) and shares a process may see one alone."""
        return self.resource in ("nvidia.com/gpu", "amd.com/gpu")


def variables(gpu: Given | None) -> dict[str, str]:
    """The environment of a pod with this `gpu` in its spec. A count of 0 is said too: a canary would else have the
    stable's."""
    if gpu is None:
        return {}
    return {VARIABLE: json.dumps(asdict(Request(gpu.count, gpu.resource, gpu.fallback)))}


def requested(environment: Mapping[str, str] = os.environ) -> Request | None:
    """What this pod was given; None: no GPU. Raises UserError where the variable cannot be read."""
    text = environment.get(VARIABLE, "")
    if not text:
        return None
    try:
        request = Request(**json.loads(text))
        if not (type(request.count) is int and type(request.resource) is str and request.fallback in ("none", "cpu")):
            raise ValueError(text)
    except (TypeError, ValueError) as error:
        example = json.dumps(asdict(Request(1)))
        raise UserError(
            f"the environment variable {VARIABLE} is {text!r}; allowed: JSON such as {example}. Unset it where no GPU "
            "is needed",
            code="gpu.request-malformed",
            variable=VARIABLE,
            value=text,
        ) from error
    return request if request.count > 0 else None
