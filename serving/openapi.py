"""What the gateway answers, as an OpenAPI document: written to docs/openapi.json, and held to what is served by tests.

The request's schema is that of the class which checks requests. What depends on a recommender (its attributes, its
limits) and what JSON schema cannot say of a request (one of several keys) stands in words.
"""

from __future__ import annotations

from typing import Any

from endcap import __version__, ids
from endcap.fallback_reasons import REASONS
from endcap.ranking.request import RankRequest
from endcap_serving.gateway.routes import SHOPPER_HEADER, VARIANT_HEADER
from endcap_serving.intake.records import ATTRIBUTION, MOST_LINES, MOST_POSITION
from endcap_serving.names import KEY_HEADER

Json = dict[str, Any]
INTAKE = ("events", "impressions", "orders")
_NAME = r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$"
_HEADERS = {
    "x-request-id": "The request's own id, or a new one.",
    VARIANT_HEADER: "Who answered: stable, canary, previous, baseline or fallback.",
    "x-endcap-version": "The model's version.",
    "x-endcap-ranking-id": "Of the first ranking.",
    "x-endcap-degraded": "Parts of the service that were away, such as online-store.",
}


def build_document() -> Json:
    """The OpenAPI 3.1 document."""
    request = RankRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = request.pop("$defs", {})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Endcap",
            "version": __version__,
            "description": "Personalised rankings, and the intake of what shoppers did, as the gateway has them.",
        },
        "servers": [{"url": "http://localhost:8080"}],
        # Whether one is needed says the gateway's access policy.
        "security": [{}, {"key": []}, {"token": []}],
        "paths": _rankings() | {f"/v1/{kind}": _intake(kind) for kind in INTAKE},
        "components": {
            "schemas": {**parts, "RankRequest": request, **_ANSWERS, **_RECORDS},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
            "responses": {
                "Wrong": _answer("The request is wrong: code, place, what was found and what is allowed.", "Error"),
                "Unknown": _answer("This needs a key or a token, or the one that was sent is not taken.", "Error"),
                "Forbidden": _answer("The caller may not do this, or a page of another origin has sent it.", "Error"),
                "Nothing": _answer("No such recommender or path.", "Error"),
                "Later": {
                    **_answer("More than can be answered in time, or nobody can answer.", "Error"),
                    "headers": {"retry-after": {"schema": {"type": "string"}, "description": "Seconds."}},
                },
            },
        },
    }


def _rankings() -> Json:
    name = {"name": "recommender", "in": "path", "required": True, "schema": {"type": "string", "pattern": _NAME}}
    shopper = {
        "name": SHOPPER_HEADER,
        "in": "header",
        "schema": {"type": "string"},
        "description": "Who asks: the same shopper always gets the same variant.",
    }
    identity = {"name": "x-request-id", "in": "header", "schema": {"type": "string"}}
    request_part = {"parameters": [name, shopper, identity], "tags": ["rankings"]}
    response = {"headers": {header: {"schema": {"type": "string"}, "description": d} for header, d in _HEADERS.items()}}
    refused = {str(status): _ref("responses", kind) for status, kind in _REFUSALS.items()}
    base = "/{recommender}"
    return {
        f"{base}/v1/models/{{recommender}}:predict": {
            "post": {
                **request_part,
                "operationId": "rank",
                "summary": "Rankings by KServe's V1 protocol",
                "requestBody": _body("Instances"),
                "responses": {"200": {**_answer("A ranking for each instance.", "Predictions"), **response}, **refused},
            }
        },
        f"{base}/v2/models/{{recommender}}/infer": {
            "post": {
                **request_part,
                "operationId": "rankV2",
                "summary": "Rankings by KServe's V2 protocol: instances and rankings are JSON texts in BYTES tensors",
                "requestBody": _body("Tensors"),
                "responses": {"200": {**_answer("The tensor `ranking`.", "Ranked"), **response}, **refused},
            }
        },
        f"{base}/v2/models/{{recommender}}/ready": {
            "get": {
                "parameters": [name],
                "tags": ["rankings"],
                "operationId": "ready",
                "summary": "Whether the model answers",
                "responses": {"200": {"description": "It does."}, **refused},
            }
        },
    }


def _intake(kind: str) -> Json:
    return {
        "post": {
            "tags": ["intake"],
            "operationId": kind,
            "summary": f"Report {kind}, one or many: answered when they are on disk",
            "requestBody": _body(f"{kind[:-1].capitalize()}Records"),
            "responses": {
                "200": _answer("All are taken, or were before.", "Receipt"),
                "207": _answer("The good ones are taken; the others are listed.", "Receipt"),
                "400": _answer("Nothing was taken.", "Refused"),
                **{str(status): _ref("responses", kind) for status, kind in _REFUSALS.items() if status != 400},
            },
        }
    }


_REFUSALS = {
    400: "Wrong",
    401: "Unknown",
    403: "Forbidden",
    404: "Nothing",
    413: "Wrong",
    415: "Wrong",
    429: "Later",
    503: "Later",
    504: "Later",
}


def _ref(section: str, name: str) -> Json:
    return {"$ref": f"#/components/{section}/{name}"}


def _json(schema: str) -> Json:
    return {"application/json": {"schema": _ref("schemas", schema)}}


def _body(schema: str) -> Json:
    return {"required": True, "content": _json(schema)}


def _answer(description: str, schema: str) -> Json:
    return {"description": description, "content": _json(schema)}


def _object(required: list[str], **properties: Any) -> Json:
    return {"type": "object", "required": required, "properties": properties}


def _strict(required: list[str], **properties: Any) -> Json:
    return {**_object(required, **properties), "additionalProperties": False}


def _list(of: Json, **more: Any) -> Json:
    return {"type": "array", "items": of, **more}


def _record(required: list[str], **properties: Any) -> Json:
    return _strict(required, **properties, time=_TIME)


_TEXT: Json = {"type": "string", "minLength": 1, "maxLength": ids.LONGEST, "pattern": ids.PATTERN}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TIME: Json = {
    "anyOf": [{"type": "integer", "description": "Epoch milliseconds."}, {"type": "string", "format": "date-time"}],
    "description": "Left out: now. At most a day ahead.",
}
_TENSOR = _object(
    ["name", "shape", "datatype", "data"],
    name={"type": "string"},
    shape=_list({"type": "integer"}),
    datatype={"const": "BYTES"},
    data=_list({"type": "string", "contentMediaType": "application/json"}),
)
_CODED: Json = {
    "code": {"type": "string", "pattern": r"^[a-z]+\.[a-z0-9-]+$", "description": "The fault's stable name."},
    "fields": {"type": "object", "description": "What the text speaks of, as values."},
}
_ERROR: Json = {"error": {"type": "string", "description": "For a person."}, **_CODED}
_REJECTED = _list(
    _object(["index", "reason", "code"], index=_COUNT, reason={"type": "string"}, **_CODED),
    description="What was wrong with the records that were not taken, by their place in the call.",
)
_REASONS = "There may come more. " + "; ".join(f"{reason}: {meaning}" for reason, meaning in REASONS.items()) + "."
_ANSWERS: Json = {
    "Instances": _strict(["instances"], instances=_list(_ref("schemas", "RankRequest"), minItems=1, maxItems=1024)),
    "Tensors": _object(["inputs"], id={"type": "string"}, inputs=_list(_TENSOR, minItems=1, maxItems=1)),
    "RankedItem": _object(
        ["item", "score"],
        item={"type": "string"},
        score={"type": ["number", "null"], "description": "null: the model has no opinion on it."},
        fallback={"const": True},
    ),
    "Ranking": _object(
        ["items", "unknown", "variant", "request_id", "ranking_id"],
        items=_list(_ref("schemas", "RankedItem")),
        unknown={**_COUNT, "description": "Of the request's items and candidates, how many the model does not know."},
        fallback={
            **_object(
                ["reason", "items"],
                reason={"type": "string", "description": _REASONS},
                items={**_COUNT, "description": "How many of the items are fallbacks."},
            ),
            "description": "Why items are fallbacks. Only where some are.",
        },
        model_version={"type": ["string", "null"]},
        variant={"enum": ["stable", "canary", "previous", "baseline", "fallback"]},
        request_id={"type": "string"},
        ranking_id={
            "type": "string",
            "description": "Goes back with impressions; tells Endcap who answered.",
        },
        surface={"type": "string"},
        removed=_list(
            _object(["rule"], rule={"type": "string"}, item={"type": "string"}, items=_COUNT),
            description="What rules took away, where it was asked for: candidates by `item`, else `items` by rule.",
        ),
        degraded=_list({"type": "string"}),
        precomputed={"const": True},
    ),
    "Predictions": _object(["predictions"], predictions=_list(_ref("schemas", "Ranking"))),
    "Ranked": _object(["model_name", "outputs"], model_name={"type": "string"}, outputs=_list(_TENSOR)),
    "Error": _object(["error", "code"], **_ERROR),
    "Receipt": _object(
        ["accepted", "duplicates"],
        accepted=_COUNT,
        duplicates={**_COUNT, "description": "Records whose id was taken in the last 24 hours."},
        rejected=_REJECTED,
    ),
    "Refused": _object(
        ["error", "code"], **_ERROR, **dict.fromkeys(("accepted", "duplicates"), _COUNT), rejected=_REJECTED
    ),
}
_KINDS: Json = {
    "EventRecord": {
        **_record(
            ["id"],
            **dict.fromkeys(("id", "item", "customer", "session", "type", "surface", "ranking_id"), _TEXT),
            **dict.fromkeys(ATTRIBUTION, _TEXT),
        ),
        "anyOf": [{"required": ["item"]}, {"required": ["type"]}],
        "description": "Without `item` it is activity, such as a search, which keeps the customer's visit alive.",
    },
    "ImpressionRecord": _record(
        ["id", "ranking_id", "item", "position"],
        **dict.fromkeys(("id", "ranking_id", "item", "customer", "session", "surface", *ATTRIBUTION), _TEXT),
        position={"type": "integer", "minimum": 0, "maximum": MOST_POSITION, "description": "From 0, the first."},
    ),
    "OrderRecord": _record(
        ["id", "customer", "items"],
        **dict.fromkeys(("id", "customer", "session", *ATTRIBUTION), _TEXT),
        items=_list(
            _strict(
                ["item"],
                item=_TEXT,
                quantity={"type": "integer", "minimum": 1, "maximum": 1_000_000},
                price={"type": "number", "minimum": 0, "maximum": 1e12},
            ),
            minItems=1,
            maxItems=MOST_LINES,
        ),
    ),
}
_RECORDS: Json = {
    **_KINDS,
    **{f"{kind}s": {"anyOf": [_ref("schemas", kind), _list(_ref("schemas", kind), minItems=1)]} for kind in _KINDS},
}
