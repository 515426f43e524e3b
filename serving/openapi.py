"""What the gateway answers, as an OpenAPI document. `make compile` writes it to docs/openapi.json, and tests compare it
with the servers.

The request's schema comes from the class that checks requests. Descriptions say what depends on a recommender (its
attributes and limits), and what JSON Schema cannot express.
"""

from __future__ import annotations

from typing import Any

from endcap import __version__, ids
from endcap.experiments.splits import CHALLENGERS
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
        # The gateway's access policy decides whether a key or a token is needed.
        "security": [{}, {"key": []}, {"token": []}],
        "paths": _build_ranking_paths() | {f"/v1/{kind}": _build_intake_path(kind) for kind in INTAKE},
        "components": {
            "schemas": {**parts, "RankRequest": request, **_ANSWERS, **_RECORDS},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
            "responses": {
                "Wrong": _make_response(
                    "The request is wrong: code, place, what was found and what is allowed.", "Error"
                ),
                "Unknown": _make_response(
                    "This needs a key or a token, or the one that was sent is not taken.", "Error"
                ),
                "Forbidden": _make_response(
                    "The caller may not do this, or a page of another origin has sent it.", "Error"
                ),
                "Nothing": _make_response("No such recommender or path.", "Error"),
                "Later": {
                    **_make_response("More than can be answered in time, or nobody can answer.", "Error"),
                    "headers": {"retry-after": {"schema": {"type": "string"}, "description": "Seconds."}},
                },
            },
        },
    }


def _build_ranking_paths() -> Json:
    name = {"name": "recommender", "in": "path", "required": True, "schema": {"type": "string", "pattern": _NAME}}
    shopper = {
        "name": SHOPPER_HEADER,
        "in": "header",
        "schema": {"type": "string"},
        "description": "Who asks: the same shopper always gets the same variant.",
    }
    identity = {"name": "x-request-id", "in": "header", "schema": {"type": "string"}}
    request_part = {"parameters": [name, shopper, identity], "tags": ["rankings"]}
    response = {
        "headers": {header: {"schema": {"type": "string"}, "description": text} for header, text in _HEADERS.items()}
    }
    refusals = {str(status): _make_reference("responses", kind) for status, kind in _REFUSALS.items()}
    base = "/{recommender}"
    return {
        f"{base}/v1/models/{{recommender}}:predict": {
            "post": {
                **request_part,
                "operationId": "rank",
                "summary": "Rankings by KServe's V1 protocol",
                "requestBody": _make_request_body("Instances"),
                "responses": {
                    "200": {**_make_response("A ranking for each instance.", "Predictions"), **response},
                    **refusals,
                },
            }
        },
        f"{base}/v2/models/{{recommender}}/infer": {
            "post": {
                **request_part,
                "operationId": "rankV2",
                "summary": "Rankings by KServe's V2 protocol: instances and rankings are JSON texts in BYTES tensors",
                "requestBody": _make_request_body("Tensors"),
                "responses": {"200": {**_make_response("The tensor `ranking`.", "Ranked"), **response}, **refusals},
            }
        },
        f"{base}/v2/models/{{recommender}}/ready": {
            "get": {
                "parameters": [name],
                "tags": ["rankings"],
                "operationId": "ready",
                "summary": "Whether the model answers",
                "responses": {"200": {"description": "It does."}, **refusals},
            }
        },
    }


def _build_intake_path(kind: str) -> Json:
    return {
        "post": {
            "tags": ["intake"],
            "operationId": kind,
            "summary": f"Report {kind}, one or many: answered when they are on disk",
            "requestBody": _make_request_body(f"{kind[:-1].capitalize()}Records"),
            "responses": {
                "200": _make_response("All are taken, or were before.", "Receipt"),
                "207": _make_response("The good ones are taken; the others are listed.", "Receipt"),
                "400": _make_response("Nothing was taken.", "Refused"),
                **{
                    str(status): _make_reference("responses", kind)
                    for status, kind in _REFUSALS.items()
                    if status != 400
                },
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


def _make_reference(section: str, name: str) -> Json:
    return {"$ref": f"#/components/{section}/{name}"}


def _make_json_content(schema: str) -> Json:
    return {"application/json": {"schema": _make_reference("schemas", schema)}}


def _make_request_body(schema: str) -> Json:
    return {"required": True, "content": _make_json_content(schema)}


def _make_response(description: str, schema: str) -> Json:
    return {"description": description, "content": _make_json_content(schema)}


def _make_object(required: list[str], **properties: Any) -> Json:
    return {"type": "object", "required": required, "properties": properties}


def _make_strict_object(required: list[str], **properties: Any) -> Json:
    return {**_make_object(required, **properties), "additionalProperties": False}


def _make_list(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items, **more}


def _make_record(required: list[str], **properties: Any) -> Json:
    return _make_strict_object(required, **properties, time=_TIME)


_TEXT: Json = {"type": "string", "minLength": 1, "maxLength": ids.LONGEST, "pattern": ids.PATTERN}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TIME: Json = {
    "anyOf": [{"type": "integer", "description": "Epoch milliseconds."}, {"type": "string", "format": "date-time"}],
    "description": "Left out: now. At most a day ahead.",
}
_TENSOR = _make_object(
    ["name", "shape", "datatype", "data"],
    name={"type": "string"},
    shape=_make_list({"type": "integer"}),
    datatype={"const": "BYTES"},
    data=_make_list({"type": "string", "contentMediaType": "application/json"}),
)
_CODED: Json = {
    "code": {"type": "string", "pattern": r"^[a-z]+\.[a-z0-9-]+$", "description": "The fault's stable name."},
    "fields": {"type": "object", "description": "What the text speaks of, as values."},
}
_ERROR: Json = {"error": {"type": "string", "description": "For a person."}, **_CODED}
_REJECTED = _make_list(
    _make_object(["index", "reason", "code"], index=_COUNT, reason={"type": "string"}, **_CODED),
    description="What was wrong with the records that were not taken, by their place in the call.",
)
_REASONS = "There may come more. " + "; ".join(f"{reason}: {meaning}" for reason, meaning in REASONS.items()) + "."
_ANSWERS: Json = {
    "Instances": _make_strict_object(
        ["instances"], instances=_make_list(_make_reference("schemas", "RankRequest"), minItems=1, maxItems=1024)
    ),
    "Tensors": _make_object(["inputs"], id={"type": "string"}, inputs=_make_list(_TENSOR, minItems=1, maxItems=1)),
    "RankedItem": _make_object(
        ["item", "score"],
        item={"type": "string"},
        score={"type": ["number", "null"], "description": "null: the model has no opinion on it."},
        fallback={"const": True},
    ),
    "Ranking": _make_object(
        ["items", "unknown", "variant", "request_id", "ranking_id"],
        items=_make_list(_make_reference("schemas", "RankedItem")),
        unknown={**_COUNT, "description": "Of the request's items and candidates, how many the model does not know."},
        fallback={
            **_make_object(
                ["reason", "items"],
                reason={"type": "string", "description": _REASONS},
                items={**_COUNT, "description": "How many of the items are fallbacks."},
            ),
            "description": "Why items are fallbacks. Only where some are.",
        },
        model_version={"type": ["string", "null"]},
        variant={"enum": ["stable", "canary", "previous", "baseline", *CHALLENGERS, "fallback"]},
        request_id={"type": "string"},
        ranking_id={
            "type": "string",
            "description": "Goes back with impressions; tells Endcap who answered.",
        },
        surface={"type": "string"},
        removed=_make_list(
            _make_object(["rule"], rule={"type": "string"}, item={"type": "string"}, items=_COUNT),
            description="What rules took away, where it was asked for: candidates by `item`, else `items` by rule.",
        ),
        degraded=_make_list({"type": "string"}),
        precomputed={"const": True},
    ),
    "Predictions": _make_object(["predictions"], predictions=_make_list(_make_reference("schemas", "Ranking"))),
    "Ranked": _make_object(["model_name", "outputs"], model_name={"type": "string"}, outputs=_make_list(_TENSOR)),
    "Error": _make_object(["error", "code"], **_ERROR),
    "Receipt": _make_object(
        ["accepted", "duplicates"],
        accepted=_COUNT,
        duplicates={**_COUNT, "description": "Records whose id was taken in the last 24 hours."},
        rejected=_REJECTED,
    ),
    "Refused": _make_object(
        ["error", "code"], **_ERROR, **dict.fromkeys(("accepted", "duplicates"), _COUNT), rejected=_REJECTED
    ),
}
_KINDS: Json = {
    "EventRecord": {
        **_make_record(
            ["id"],
            **dict.fromkeys(("id", "item", "customer", "session", "type", "surface", "ranking_id"), _TEXT),
            **dict.fromkeys(ATTRIBUTION, _TEXT),
        ),
        "anyOf": [{"required": ["item"]}, {"required": ["type"]}],
        "description": "Without `item` it is activity, such as a search, which keeps the customer's visit alive.",
    },
    "ImpressionRecord": _make_record(
        ["id", "ranking_id", "item", "position"],
        **dict.fromkeys(("id", "ranking_id", "item", "customer", "session", "surface", *ATTRIBUTION), _TEXT),
        position={"type": "integer", "minimum": 0, "maximum": MOST_POSITION, "description": "From 0, the first."},
    ),
    "OrderRecord": _make_record(
        ["id", "customer", "items"],
        **dict.fromkeys(("id", "customer", "session", *ATTRIBUTION), _TEXT),
        items=_make_list(
            _make_strict_object(
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
    **{
        f"{kind}s": {
            "anyOf": [_make_reference("schemas", kind), _make_list(_make_reference("schemas", kind), minItems=1)]
        }
        for kind in _KINDS
    },
}
