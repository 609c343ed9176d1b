"""When is a finished stage still the answer? When nothing that can change its result has changed.

The fingerprint of a stage covers its kind and that kind's version, its scientific values, the seed, the identity of its
cases, and the fingerprints of the stages that it takes from. Values marked `execution` stay out.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from medpipe.stages.stage import Stage


def scientific_values(value: Any) -> Any:
    """`value` as plain JSON data, without the fields that are marked `execution`."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: scientific_values(getattr(value, name))
            for name, field in fields.items()
            if not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("execution"))
        }
    if isinstance(value, Mapping):
        return {str(key): scientific_values(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [scientific_values(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def fingerprint(stage: Stage, *, seed: int, case_identities: list[str], inputs: Mapping[str, str]) -> str:
    """Hexadecimal SHA-256 of all that the stage's result depends on; `inputs`: stage name -> its fingerprint."""
    facts = {
        "kind": stage.stage,
        "version": type(stage).version,
        "values": scientific_values(stage),
        "seed": seed,
        "cases": case_identities,
        "inputs": dict(sorted(inputs.items())),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
