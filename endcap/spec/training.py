"""Where the model is fitted: in the step itself, or over several workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from endcap.spec.base import Mistake, Strict, check
from endcap.spec.model import ModelSpec
from endcap.spec.neural import GRU4RecSpec
from endcap.spec.search import RayCluster, SearchSpec, check_one_place
from endcap.spec.space import Choice
from endcap.spec.tunable import list_domains, list_members, list_starts

SHARED = ("gru4rec",)
"""Models whose steps workers can share."""
_QUICK = ("popularity", "recent-popularity", "sequential-rules", "vsknn", "ease", "item-knn")
"""Models that each worker of a blend fits for itself."""


class TrainingSpec(Strict):
    """The fits of the train step and of refit. A search's trials have one worker each, whatever stands here."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that share each step of a fit, on this machine or on several; with 1 Ray is not started for it."""
    cpu: Annotated[float, Field(gt=0)] = 1.0
    """Cores of a worker."""
    gpu: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of a worker."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """So often workers that died are begun anew from the last epoch, before the step fails."""
    address: str | None = None
    """Of a Ray cluster that is there, such as ray://head:10001; left out: on this machine, or `cluster`."""
    cluster: RayCluster | None = None

    @check
    def _one_place(self) -> Iterator[Mistake]:
        return check_one_place(self.cluster, self.address)


def check_training(training: TrainingSpec, model: ModelSpec, search: SearchSpec | None = None) -> Iterator[Mistake]:
    """What several workers cannot do with this model, nor with those that a search may make of it."""
    if training.workers == 1:
        return
    single = list_members(model)
    shared = {label: member for label, member in single.items() if isinstance(member, GRU4RecSpec)}
    foreign = [member.name for member in single.values() if member.name not in (*SHARED, *(_QUICK if shared else ()))]
    actual = f"{training.workers} workers"
    if foreign or not shared:
        hint = "Leave `training` out: other models are fitted by one process."
        allowed = f"1, or as the model {', '.join(SHARED)}, or a blend of it and models without epochs"
        yield Mistake(("workers",), f"{actual} for {foreign[0]}", allowed, hint, code="conflict")
        return
    own = [
        (_join_key("model.members." if label else "model.", label), member.batch_size)
        for label, member in shared.items()
    ]
    hint = "Give search.space such values of it, or list it in search.fixed."
    for batches, advice in ((own, ""), (_check_searched(shared, model, search), hint)):
        for key, batch in batches:
            if batch % training.workers:
                allowed = f"what divides {key}: its sessions are shared out"
                yield Mistake(("workers",), f"{actual} for {key}, {batch}", allowed, advice, code="conflict")


def _check_searched(
    shared: Mapping[str, GRU4RecSpec], model: ModelSpec, search: SearchSpec | None
) -> Iterator[tuple[str, int]]:
    """The batches that a search may choose, each by the key of its domain; of a range two neighbours."""
    if search is None or search.trials == 1:
        return
    own = list_domains(model, search)
    for label, member in shared.items():
        domain = own.get(label, {}).get("batch_size")
        if domain is None:
            continue
        values = domain.values if isinstance(domain, Choice) else [int(domain.low), int(domain.low) + 1]
        known = [start["batch_size"] for start in list_starts(label, member, search) if "batch_size" in start]
        # What is no number is a mistake of the domain, told there.
        for value in dict.fromkeys(value for value in [*values, *known] if isinstance(value, int)):
            yield _join_key("search.space.", label), int(value)


def _join_key(above: str, label: str) -> str:
    return f"{above}{label}.batch_size" if label else f"{above}batch_size"
