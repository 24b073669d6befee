"""What OpenAPI says of each request; the words of ``/docs``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from vavl.service.schema import prediction_schema

DESCRIPTION = (
    "Which emotion is expressed in a clip, from sound and face, or whichever is there; over time, "
    "by person and by sentence. Everything runs on this machine: a clip is deleted when it has "
    "been predicted."
)

_PROBLEM = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was expected, got, and what to do."},
    },
    "required": ["title", "status", "detail"],
}
_STATE = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "status": {"enum": ["queued", "running", "done", "failed"]},
        "waiting": {"type": "integer", "description": "Clips before it in the queue."},
        "done_s": {"type": ["number", "null"], "description": "Seconds that are predicted."},
        "duration_s": {"type": ["number", "null"], "description": "Seconds that there are."},
        "problem": {"anyOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "null"}]},
        "prediction": {"anyOf": [{"$ref": "#/components/schemas/Clip"}, {"type": "null"}]},
    },
    "required": ["id", "status", "waiting", "done_s", "duration_s", "problem", "prediction"],
}
_BINARY = {"type": "string", "format": "binary"}
_OCTETS = {"application/octet-stream": {"schema": _BINARY}}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _body(others: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A form of these parts, of which ``file`` must be there, or a body of another type."""
    form = {"type": "object", "properties": parts, "required": ["file"]}
    content = {"multipart/form-data": {"schema": form}, **others}
    return {"requestBody": {"required": True, "content": content}}


def _problems(*statuses: int) -> dict[int | str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {s: {"description": _REASONS[s], "content": content} for s in statuses}


_REASONS = {
    400: "The body cannot be read: no form, no file, cut off.",
    401: "No token, or another one.",
    403: "A page of another origin asks.",
    404: "No such prediction, or it is forgotten.",
    408: "The client took too long to send the clip.",
    409: "The prediction is not ready.",
    413: "The body is larger than the service takes.",
    415: "Neither a form nor a type of media.",
    421: "The Host header names another machine.",
    422: "An option makes no sense, or the clip cannot be predicted: the detail says why.",
    500: "The process that worked on the clip ended.",
    503: "The queue is full, or the service stops: Retry-After says when to ask again.",
    504: "The clip took longer than the time limit.",
    507: "No space is left on the disk.",
}
_TEXTS = ("text/csv", "text/vtt", "application/x-subrip", "text/plain")


def _answers(description: str, *names: str) -> dict[str, Any]:
    """JSON of one of these schemas, or the prediction as text."""
    schemas = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    content: dict[str, Any] = {"application/json": {"schema": {"anyOf": schemas}}}
    content |= {form: {"schema": {"type": "string"}} for form in _TEXTS}
    return {"description": description, "content": content}


_ALL = _problems(*_REASONS)

PREDICT: dict[str, Any] = {
    "summary": "Predict a clip",
    "description": (
        "The body is the file, or a form with the part `file`, and perhaps `profile`. Answers with "
        "the prediction where it is done within 20 s, or as the header `Prefer` says "
        "(`respond-async`, `wait=5`); otherwise with its state."
    ),
    "tags": ["clips"],
    "responses": {
        200: _answers("The prediction, in the format that was asked for.", "Clip"),
        202: {
            "description": "Not done: see Location.",
            "content": _json("State"),
        },
        **_ALL,
    },
    "openapi_extra": _body(_OCTETS, file=_BINARY, profile=_BINARY),
}
STATE: dict[str, Any] = {
    "summary": "How far a prediction is, and the answer",
    "description": "With `format`, the answer alone, in that format.",
    "tags": ["clips"],
    "responses": {200: _answers("The state, or the prediction alone.", "State", "Clip"), **_ALL},
}
EVENTS: dict[str, Any] = {
    "summary": "Follow a prediction until it has ended",
    "description": "Events called `state`, with the state as data, whenever it has changed.",
    "tags": ["clips"],
    "responses": {
        200: {
            "description": "Server-sent events.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **_ALL,
    },
}
DELETE: dict[str, Any] = {
    "summary": "Stop and forget a prediction",
    "tags": ["clips"],
    "responses": _ALL,
}
PROFILE: dict[str, Any] = {
    "summary": "Get to know a person",
    "description": (
        "From clips of the person, without labels: parts of a form, ten or more, of all moods. "
        "Gives a profile, the part `profile` of later predictions; the service keeps none. It is "
        "personal data."
    ),
    "tags": ["people"],
    "responses": {
        200: {
            "description": "The profile: a safetensors file.",
            "content": {"application/octet-stream": {"schema": _BINARY}},
        },
        **_ALL,
    },
    "openapi_extra": _body({}, file={"type": "array", "items": _BINARY}),
}
MODEL: dict[str, Any] = {"summary": "What the model can do", "tags": ["model"], "responses": _ALL}
CARD: dict[str, Any] = {"summary": "The model card", "tags": ["model"], "responses": _ALL}


def describe(app: FastAPI) -> None:
    """Gives the application its OpenAPI description, made when it is first asked for."""

    def description() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            clip = prediction_schema("#/components/schemas/{model}")
            parts = schema.setdefault("components", {}).setdefault("schemas", {})
            parts |= clip.pop("$defs") | {"Clip": clip, "State": _STATE, "Problem": _PROBLEM}
            for name in ("HTTPValidationError", "ValidationError"):  # ours are problems
                parts.pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = description  # type: ignore[method-assign]
