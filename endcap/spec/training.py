"""Where the model is fitted: in the step itself, or by several workers."""

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
"""The models whose steps several workers can share."""
_QUICK = ("popularity", "recent-popularity", "sequential-rules", "vsknn", "ease", "item-knn")
"""The models of a blend that each worker fits alone, because this takes little time."""


class TrainingSpec(Strict):
    """How the steps train and refit fit the model. The trials of a search always have one worker each."""

    workers: Annotated[int, Field(ge=1)] = 1
    """The number of processes that share the work, on one machine or several. With more than one, Ray runs them."""
    cpu: Annotated[float, Field(gt=0)] = 1.0
    """The cores of a worker."""
    gpu: Annotated[int, Field(ge=0, le=1)] = 0
    """The GPUs of a worker."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """How many times the step starts workers again that died. They go on after the last epoch. Then the step fails."""
    address: str | None = None
    """The address of an existing Ray cluster, such as ray://head:10001. Left out: workers run on this machine, or in
    `cluster`."""
    cluster: RayCluster | None = None
    """A Ray cluster to make for the step. Left out: none is made."""

    @check
    def _ray_runs_in_one_place(self) -> Iterator[Mistake]:
        return check_one_place(self.cluster, self.address)


def check_training(training: TrainingSpec, model: ModelSpec, search: SearchSpec | None = None) -> Iterator[Mistake]:
    """Find why several workers cannot fit this model, or a model that the search may choose."""
    if training.workers == 1:
        return
    single = list_members(model)
    shared = {label: member for label, member in single.items() if isinstance(member, GRU4RecSpec)}
    unshared = [member.name for member in single.values() if member.name not in (*SHARED, *(_QUICK if shared else ()))]
    actual = f"{training.workers} workers"
    if unshared or not shared:
        hint = "Remove `training`: one process fits other models."
        allowed = f"1; or the model {', '.join(SHARED)}, or a blend of it and models without epochs"
        yield Mistake(("workers",), f"{actual} for {unshared[0]}", allowed, hint, code="conflict")
        return
    own = [
        (_join_key("model.members." if label else "model.", label), member.batch_size)
        for label, member in shared.items()
    ]
    hint = "Give search.space such values of it, or list it in search.fixed."
    for batches, advice in ((own, ""), (_check_searched(shared, model, search), hint)):
        for key, batch in batches:
            if batch % training.workers:
                allowed = f"a divisor of {key}, because the workers share its sessions equally"
                yield Mistake(("workers",), f"{actual} for {key}, {batch}", allowed, advice, code="conflict")


def _check_searched(
    shared: Mapping[str, GRU4RecSpec], model: ModelSpec, search: SearchSpec | None
) -> Iterator[tuple[str, int]]:
    """List the batch sizes that a search may choose, by the keys of their domains. A range gives two neighbours."""
    if search is None or search.trials == 1:
        return
    own = list_domains(model, search)
    for label, member in shared.items():
        domain = own.get(label, {}).get("batch_size")
        if domain is None:
            continue
        values = domain.values if isinstance(domain, Choice) else [int(domain.low), int(domain.low) + 1]
        start_sizes = [start["batch_size"] for start in list_starts(label, member, search) if "batch_size" in start]
        # The check of the domain reports what is no number.
        for value in dict.fromkeys(value for value in [*values, *start_sizes] if isinstance(value, int)):
            yield _join_key("search.space.", label), int(value)


def _join_key(above: str, label: str) -> str:
    return f"{above}{label}.batch_size" if label else f"{above}batch_size"
