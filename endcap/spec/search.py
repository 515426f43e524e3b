"""The search: how a model's settings are found."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from endcap.spec.base import Duration, Mistake, Name, Share, Strict, mistakes
from endcap.spec.kubernetes import Pod
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


class Search(Strict):
    """Trials of the model's parameters on the training part, judged on the validation part."""

    trials: Annotated[int, Field(ge=1)] = 40
    """At most so many. The first is the model as the spec has it, then settings known to be good, then samples. With 1
    nothing is searched."""
    time_budget: Duration = Field(default="30m", validate_default=True)
    """When it is used up, the best so far is taken."""
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
    grace: Annotated[int, Field(ge=1)] = 4
    """Epochs that a trial runs before it may be stopped."""
    max_failed: Share = 0.5
    """The step fails when a larger share of the trials has failed."""
    address: str | None = None
    """Of a Ray cluster that is there, such as ray://head:10001; left out: on this machine, or `cluster`."""
    cluster: RayCluster | None = None

    @field_validator("space")
    @classmethod
    def _domains_are_of_parameters(cls, space: dict[str, Domain]) -> dict[str, Domain]:
        wrong = [name for name in space if not all(part for part in name.split("."))]
        if wrong:
            allowed = "parameter, or member.parameter"
            raise mistakes([Mistake((name,), repr(name), allowed, code="not-allowed") for name in wrong])
        return space

    @field_validator("fixed")
    @classmethod
    def _not_both(cls, fixed: list[str], info: ValidationInfo) -> list[str]:
        both = [name for name in fixed if name in info.data.get("space", {})]
        if both:
            found = "which has a domain in space"
            raise mistakes([Mistake((), f"{name!r}, {found}", "one of the two", code="conflict") for name in both])
        return fixed

    @field_validator("cluster")
    @classmethod
    def _one_place(cls, cluster: RayCluster | None, info: ValidationInfo) -> RayCluster | None:
        if cluster is not None and info.data.get("address"):
            raise mistakes([Mistake((), "a cluster of its own and an address", "one of the two", code="conflict")])
        return cluster
