"""GPUs: what a pod was given by its spec, what torch sees of it, and why that may be nothing.

A pod learns by an environment variable that it was given GPUs (`request`). Before any work `check` has a process of its
own look for them (`probe`), and says what is wrong (`causes`).
"""

from endcap.devices.check import Lack, check, fell_back, require
from endcap.devices.probe import Probe, probe
from endcap.devices.request import VARIABLE, Request, requested, variables

__all__ = [
    "VARIABLE",
    "Lack",
    "Probe",
    "Request",
    "check",
    "fell_back",
    "probe",
    "request",
    "requested",
    "require",
    "variables",
]
