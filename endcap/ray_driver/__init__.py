"""Ray for a step: its driver runs in a child process of the step, so that Ray's output, signals and end stay apart.

The search, distributed fits and batch lists describe what they need with a `Driver` and a `DriverJob`, and run the job
with a `RayProcess`. `cluster` and `kuberay` provide a Ray cluster where the spec asks for one.
"""

from endcap.ray_driver.jobs import Driver, DriverJob, Emit, Event, WorkerNeeds
from endcap.ray_driver.process import RayProcess

__all__ = ["Driver", "DriverJob", "Emit", "Event", "RayProcess", "WorkerNeeds"]
