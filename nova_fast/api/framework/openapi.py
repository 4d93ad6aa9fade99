"""The OpenAPI document of a face, made from its declarations and nothing else."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nova_fast.api.framework.once import KEY_CHARACTERS_MAX
from nova_fast.api.framework.route import FIRST_VERSION, LAST_VERSION, ByVersion, Face, Route, is_struct
from nova_fast.api.framework.versions import show_version

_REF = "#/components/schemas/{name}"
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS_MAX},
    "description": "The same request with the same key, sent again within 24 hours, gets the answer of the first and "
    "does nothing; the answer then has `Idempotency-Replayed: true`. 422 when the request is another.",
}


def document(face: Face) -> dict[str, Any]:
    """An OpenAPI 3.1 document. Routes that share path and method (actions, microversions) are one operation."""
    shapes = _shapes(face.routes)
    schemas, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    by_shape = dict(zip(map(repr, shapes), schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in face.routes:
        operations = paths.setdefault(route.path, {})
        operation = operations.setdefault(route.method.lower(), _operation(face, route))
        _add(operation, route, by_shape)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"nova_fast {face.name}", "version": "1"},
        "paths": paths,
        "components": {"schemas": components, "parameters": {"IdempotencyKey": _KEY}},
    }


def _shapes(routes: list[Route]) -> list[Any]:
    found: dict[str, Any] = {}
    for route in routes:
        for fact in (route.body, route.query, route.answer):
            for shape in ByVersion(fact).all():
                if shape is not None:
                    found.setdefault(repr(shape), shape)
    return list(found.values())


def _operation(face: Face, route: Route) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", route.path)
    parameters: list[dict[str, Any]] = [
        {"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names
    ]
    if route.method == "POST" and route.policy != "none":
        parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
    return {
        "operationId": re.sub(r"\W+", "_", f"{face.name}_{route.method}_{route.path}").strip("_"),
        "summary": _summary(route),
        "parameters": parameters,
        "responses": {},
        "x-variants": [],
    }


def _add(operation: dict[str, Any], route: Route, by_shape: dict[str, Any]) -> None:
    for status in (*ByVersion(route.ok).all(), *route.errors):
        operation["responses"].setdefault(str(status), {"description": "success" if status < 400 else "error"})
    if route.policy != "none":
        operation["responses"].setdefault("401", {"description": "error"})
        if route.method == "POST":
            operation["responses"].setdefault("422", {"description": "error"})
    for shape in ByVersion(route.query).all():
        if is_struct(shape):
            known = {parameter.get("name") for parameter in operation["parameters"]}
            for name in shape.__struct_encode_fields__:
                if name not in known:
                    operation["parameters"].append({"name": name, "in": "query", "schema": {}})
    bodies = [by_shape[repr(shape)] for shape in ByVersion(route.body).all() if shape is not None]
    if bodies and route.action is not None:
        bodies = [{"type": "object", "properties": {route.action: body}} for body in bodies]
    if bodies:
        content = operation.setdefault("requestBody", {"content": {}})["content"]
        for media in route.media:
            content.setdefault(media, {"schema": {"anyOf": []}})["schema"]["anyOf"].extend(bodies)
    operation["x-variants"].append(
        {
            "policy": route.policy,
            "action": route.action,
            "since": show_version(route.since) if route.since != FIRST_VERSION else None,
            "until": show_version(route.until) if route.until != LAST_VERSION else None,
            "summary": _summary(route),
        }
    )


def _summary(route: Route) -> str:
    return (route.handler.__doc__ or "").strip().partition("\n")[0]
