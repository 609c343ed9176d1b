"""The JSON schema of a workflow, for completion and red underlines in an editor."""

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, TypeAdapter

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Every value may also be written as one reference: `seed: ${env:SEED,0}`, `backbone: ${stages.pretrain.backbone}`.
_REFERENCE = {
    "type": "string",
    "pattern": r"^\$\{[^{}]+\}$",
    "description": "${env:NAME}, ${env:NAME,default}, ${key.path}",
}
_REFERENCE_NAME = "InterpolatedValue"
_ANNOTATIONS = ("title", "description", "default", "execution")


def schema_of(model: type[BaseModel] | TypeAdapter[Any], *, kinds: Collection[str] | None = None) -> dict[str, Any]:
    """JSON schema, draft 2020-12. With `kinds`, the key `defaults` with a mapping for each kind of stage is allowed."""
    if isinstance(model, TypeAdapter):
        schema = model.json_schema(by_alias=True, mode="validation")
    else:
        schema = model.model_json_schema(by_alias=True, mode="validation")
    schema = _with_references(schema)
    if kinds is not None:
        schema.setdefault("properties", {})["defaults"] = {
            "title": "Defaults",
            "description": "values for every stage of a kind, under the stages' own",
            "type": "object",
            "properties": {kind: {"type": "object"} for kind in sorted(kinds)},
            "additionalProperties": False,
        }
    schema.setdefault("$defs", {})[_REFERENCE_NAME] = _REFERENCE
    return {"$schema": DIALECT, **schema}


def _with_references(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in which the value of a property or an entry of a list may also be a reference."""
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs") and isinstance(value, dict):
            result[key] = {name: _part(part, is_value=key == "properties") for name, part in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            result[key] = _part(value, is_value=True)
        elif key in ("anyOf", "oneOf", "prefixItems") and isinstance(value, list):
            result[key] = [_part(part, is_value=key == "prefixItems") for part in value]
        else:
            result[key] = value
    return result


def _part(schema: dict[str, Any], *, is_value: bool) -> dict[str, Any]:
    inner = _with_references(schema)
    if not is_value or "const" in inner or _is_any_text(inner):
        return inner
    notes = {key: inner[key] for key in _ANNOTATIONS if key in inner}
    bare = {key: value for key, value in inner.items() if key not in _ANNOTATIONS}
    forms = bare["anyOf"] if set(bare) == {"anyOf"} else [bare]
    return {**notes, "anyOf": [*forms, {"$ref": f"#/$defs/{_REFERENCE_NAME}"}]}


def _is_any_text(schema: dict[str, Any]) -> bool:
    """Whether any text is allowed already; `{}` allows everything."""
    forms = schema.get("anyOf", [schema])
    return any(
        (form.get("type") == "string" and not form.keys() & {"enum", "const", "pattern"}) or not form for form in forms
    )
