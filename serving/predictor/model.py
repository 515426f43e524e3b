"""KServe's side: the model for what the fast lane leaves to it (binary tensors), and what its probes are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput, ServerNotLive
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane

from endcap.errors import RequestError
from endcap.ranking import RankRequest
from endcap_serving.kserve_bodies import (
    INPUTS,
    OUTPUTS,
    RANKING_TENSOR,
    V2_TENSOR,
    Json,
    Tensor,
    read_json,
    v1_instances,
    v2_instances,
)
from endcap_serving.names import REQUEST_ID, SCOPE_HEADER, VARIANT_HEADER, VARIANTS
from endcap_serving.predictor.asgi import answer_headers, parsed
from endcap_serving.predictor.bodies import v2_request
from endcap_serving.predictor.engine import Engine
from endcap_serving.predictor.health import Health
from endcap_serving.predictor.reading import new_id
from endcap_serving.predictor.scopes import permitted
from endcap_serving.request_ids import read_request_id


@dataclass(frozen=True)
class Call:
    """One HTTP request, checked: its ranking requests, its id, its variant, and the V2 request that it came as."""

    requests: Sequence[RankRequest]
    id: str
    variant: str
    v2: InferRequest | None = None


class RankingModel(Model):
    """An engine as KServe knows models."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.served.name, return_response_headers=True)
        self._engine = engine

    async def preprocess(self, payload: Any, headers: dict[str, str] | None = None) -> Call:
        """Check everything here: what fails later is answered 500."""
        headers = headers or {}
        v2 = payload if isinstance(payload, InferRequest) else None
        if v2 is None:
            instances = v1_instances(payload)
        else:
            instances = v2_instances([Tensor(one.name, one.datatype, one.shape, one.data) for one in v2.inputs])
        named = headers.get(VARIANT_HEADER)
        variant = named if named in VARIANTS else self._engine.served.variant
        source, scope, of_page = self._engine.served.scope_from, headers.get(SCOPE_HEADER), "origin" in headers
        requests = permitted(parsed(self._engine, instances), source, scope, of_page=of_page)
        return Call(requests, read_request_id(headers.get(REQUEST_ID, "")) or new_id(), variant, v2)

    async def predict(
        self, payload: Call, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> Json | InferResponse:
        ranked = await self._engine.rank(payload.requests)
        surfaces = [request.surface for request in payload.requests]
        texts = self._engine.written(ranked, surfaces, payload.id, payload.variant)
        if response_headers is not None:
            response_headers.update(answer_headers(self._engine, payload.id, ranked))
        if payload.v2 is None:
            return {"predictions": [orjson.loads(text) for text in texts]}
        return InferResponse(
            payload.v2.id or payload.id,
            self.name,
            [InferOutput(RANKING_TENSOR, [len(texts)], "BYTES", [text.decode() for text in texts])],
            model_version=self._engine.served.version,
            use_binary_outputs=payload.v2.use_binary_outputs,
            requested_outputs=payload.v2.request_outputs,
        )

    def get_input_types(self) -> list[Json]:
        return INPUTS

    def get_output_types(self) -> list[Json]:
        return OUTPUTS


class Plane(DataPlane):
    """Reads a body as what it is, not as what its content type says; answers 400 to whatever cannot be read, and probes
    by what `Health` says."""

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
        """disable_predictor_health_check: KServe asks so before a ranking, which is given while draining too."""
        known: bool = await super().model_ready(model_name, disable_predictor_health_check)
        return known and (disable_predictor_health_check or self._health.ready)

    def decode(
        self, body: Any, headers: dict[str, str], protocol_version: str = "v1", model_name: str | None = None
    ) -> tuple[Any, Json]:
        try:
            if isinstance(body, bytes) and "inference-header-content-length" not in headers:
                document = read_json(body)
                if protocol_version != "v2":
                    return document, {}
                body = v2_request(document)
            decoded: tuple[Any, Json] = super().decode(body, headers, protocol_version, model_name)
        except RequestError:
            raise
        except InvalidInput as error:
            raise _unreadable(str(error)) from None
        except Exception as error:  # KServe's reader of binary tensors checks nothing: any failure is the body's.
            raise _unreadable(f"{type(error).__name__}: {error}") from None
        return decoded

    def encode(self, model_name: str, response: Any, headers: Any, req_attributes: Any) -> tuple[Any, dict[str, str]]:
        # Without the request's headers: by them KServe would wrap the answer in a cloud event, or fail at it.
        encoded: tuple[Any, dict[str, str]] = super().encode(model_name, response, {}, {})
        return encoded


def _unreadable(reason: str) -> RequestError:
    return RequestError(
        f"the body cannot be read ({reason}); allowed: {V2_TENSOR}", code="predictor.body-unreadable", reason=reason
    )
