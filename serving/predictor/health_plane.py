"""What KServe's server needs to answer its probes. Rankings never come here (ranking_calls.py)."""

from __future__ import annotations

from kserve.errors import ServerNotLive
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane

from endcap_serving.predictor.health import Health


class HealthPlane(DataPlane):
    """Answers KServe's probes from a `Health`."""

    def __init__(self, models: ModelRepository, health: Health) -> None:
        super().__init__(model_registry=models)
        self._health = health

    async def live(self) -> dict[str, str]:
        if not self._health.live:
            raise ServerNotLive("The ranking thread has ended or hangs; see the log.")
        return {"status": "alive"}

    async def ready(self) -> bool:
        return self._health.ready

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        """disable_predictor_health_check: KServe sets it before it calls a model, which is allowed while draining."""
        known: bool = await super().model_ready(model_name, disable_predictor_health_check)
        return known and (disable_predictor_health_check or self._health.ready)
