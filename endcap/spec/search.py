"""The search: how a model's settings are found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Mistake, Name, Share, Strict, check, select_known
from endcap.spec.pod import Pod
from endcap.spec.space import Domain


class RayCluster(Strict):
    """A Ray cluster of the search's own, through KubeRay: made when it begins, removed however it ends."""

    namespace: Name | None = None
    """Left out: the step's own, where its pod owns the cluster, so that it goes with it."""
    workers: Annotated[int, Field(ge=1)] = 2
    head: Pod = Pod()
    worker: Pod = Pod()
    """What a worker's pod gets; its GPUs are shared by trials as `search.gpu` says."""
    image: str | None = None
    """Left out: the image of the step."""
    ready_within: Duration = Field(default="15m", validate_default=True)


class SearchSpec(Strict):
    """Trials of the model's parameters on the training part, judged on the validation part."""

    trials: Annotated[int, Field(ge=1)] = 40
    """At most so many. The first is the model as the spec has it, then settings known to be good, then samples. With 1
    nothing is searched."""
    time_budget: Duration = Field(default="30m", validate_default=True)
    """When it is used up, nothing more is tried."""
    overtime: Duration | None = None
    """How long, after the time budget, the model as the spec has it and its best rival may go on to their own ends;
    left out: as long as the time budget; 0s: not at all."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Trials at the same time; left out: as many as the cores, the GPUs by `gpu`, and in the step itself its
    memory, a GiB each, allow."""
    cpu: Annotated[float, Field(gt=0)] = 1.0
    """Cores of a trial."""
    gpu: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of a trial; 0.5: two trials share one."""
    space: dict[str, Domain] = {}
    """Domains in place of the model's own, by parameter; of a blend by member and parameter, as in `gru4rec.width`."""
    fixed: list[str] = []
    """Parameters that stay as the model has them."""
    scheduler: Literal["asha", "none"] = "asha"
    """asha: of the sampled settings, those that fall behind others at the same epoch are stopped."""
    min_epochs: Annotated[int, Field(ge=1)] = 4
    """Epochs that a trial runs before it may be stopped."""
    max_failed_share: Share = 0.5
    """When a larger share of a model's trials has failed, its search ends: the step fails, or of a blend the member is
    left out, unless it has a trial that did not."""
    nice: Annotated[int, Field(ge=0, le=19)] = 0
    """By how much trials give way to other processes of their machine: 0 not at all, 19 wherever they can."""
    address: str | None = None
    """Of a Ray cluster that is there, such as ray://head:10001; left out: on this machine, or `cluster`."""
    cluster: RayCluster | None = None

    @check
    def _domains_are_of_parameters(self) -> Iterator[Mistake]:
        for name in self.space:
            if not all(name.split(".")):
                yield Mistake(("space", name), repr(name), "parameter, or member.parameter", code="not-allowed")

    @check
    def _not_both(self) -> Iterator[Mistake]:
        for number, name in select_known(self.fixed).items():
            if name in self.space:
                actual = f"{name!r}, which has a domain in space"
                yield Mistake(("fixed", number), actual, "one of the two", code="conflict")

    @check
    def _one_place(self) -> Iterator[Mistake]:
        return check_one_place(self.cluster, self.address)


def check_one_place(cluster: RayCluster | None, address: str | None) -> Iterator[Mistake]:
    """What is wrong where Ray is to run in a cluster of its own and at an address."""
    if cluster is not None and address:
        yield Mistake(("cluster",), "a cluster of its own and an address", "one of the two", code="conflict")
