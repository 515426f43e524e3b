"""The search for a model's parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Mistake, Name, Share, Strict, check, select_known
from endcap.spec.pod import Pod
from endcap.spec.space import Domain


class RayCluster(Strict):
    """A Ray cluster that KubeRay makes for the step, and removes when the step ends."""

    namespace: Name | None = None
    """The namespace of the Ray cluster. Left out: the step's namespace. Then the step's pod owns the cluster, and
    Kubernetes removes both together."""
    workers: Annotated[int, Field(ge=1)] = 2
    """The number of worker pods."""
    head: Pod = Pod()
    """What the head pod gets."""
    worker: Pod = Pod()
    """What each worker pod gets. Trials share its GPUs; see `search.gpu`."""
    image: str | None = None
    """The image of all pods. Left out: the step's image."""
    ready_within: Duration = Field(default="15m", validate_default=True)
    """The longest time that the step waits for the Ray cluster. Then the step fails."""


class SearchSpec(Strict):
    """A search for the model's parameters. Its trials are fitted on the training part and compared on the validation
    part."""

    trials: Annotated[int, Field(ge=1)] = 40
    """The most trials. The first one has the model's parameters as the spec gives them. Then come parameters that are
    known to be good, then random ones. With 1 there is no search."""
    time_budget: Duration = Field(default="30m", validate_default=True)
    """How long the search may take. Then no trial starts, and running trials stop; see `overtime`."""
    overtime: Duration | None = None
    """How long two trials may go on after the time budget: the one with the spec's own parameters, and the best other
    one. Left out: as long as the time budget. 0s: they stop with the others."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """The number of trials at the same time. Left out: as many as the cores and the GPUs allow (see `cpu` and `gpu`),
    and in the step itself its memory, at 1 GiB for each trial."""
    cpu: Annotated[float, Field(gt=0)] = 1.0
    """The cores of a trial."""
    gpu: Annotated[float, Field(ge=0)] = 0.0
    """The GPUs of a trial. With 0.5, two trials share one GPU."""
    space: dict[str, Domain] = {}
    """The values to try, by parameter, in place of the model's own domains. In a blend, a key names the member and the
    parameter, such as `gru4rec.width`."""
    fixed: list[str] = []
    """The parameters that the search does not change."""
    scheduler: Literal["asha", "none"] = "asha"
    """`asha` stops a trial with random parameters early, if at some epoch it is worse than other trials were. `none`
    lets all trials end."""
    min_epochs: Annotated[int, Field(ge=1)] = 4
    """The number of epochs that `asha` lets every trial run."""
    max_failed_share: Share = 0.5
    """The largest share of a model's trials that may fail, 0 to 1. With more, the model's search ends, and the step
    fails. In a blend, the search ends for this member: it keeps its best trial, and without one it is left out."""
    nice: Annotated[int, Field(ge=0, le=19)] = 0
    """How far trials give way to other processes on their machine, from 0 (not at all) to 19 (wherever they can)."""
    address: str | None = None
    """The address of an existing Ray cluster, such as ray://head:10001. Left out: trials run on this machine, or in
    `cluster`."""
    cluster: RayCluster | None = None
    """A Ray cluster to make for the search. Left out: none is made."""

    @check
    def _keys_name_parameters(self) -> Iterator[Mistake]:
        for name in self.space:
            if not all(name.split(".")):
                yield Mistake(("space", name), repr(name), "parameter, or member.parameter", code="not-allowed")

    @check
    def _parameters_are_searched_or_fixed(self) -> Iterator[Mistake]:
        for number, name in select_known(self.fixed).items():
            if name in self.space:
                actual = f"{name!r}, which has a domain in space"
                yield Mistake(
                    ("fixed", number),
                    actual,
                    "either a domain in search.space, or a name in search.fixed",
                    code="conflict",
                )

    @check
    def _ray_runs_in_one_place(self) -> Iterator[Mistake]:
        return check_one_place(self.cluster, self.address)


def check_one_place(cluster: RayCluster | None, address: str | None) -> Iterator[Mistake]:
    """Find a cluster of its own beside an address: Ray runs in one of them."""
    if cluster is not None and address:
        yield Mistake(("cluster",), "a cluster to make, and an address", "either cluster or address", code="conflict")
