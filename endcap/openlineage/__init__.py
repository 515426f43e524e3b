"""OpenLineage events: what each step reads and makes, for catalogues of data that collect such from many programs."""

from endcap.openlineage.events import StepOfRun, make_event
from endcap.openlineage.step_lineage import StepLineage
from endcap.openlineage.transports import open_transport

__all__ = ["StepLineage", "StepOfRun", "make_event", "open_transport"]
