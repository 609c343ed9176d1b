"""The base class of every value that a workflow can hold, and the marks that its fields can carry."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """Frozen, strict, unknown keys forbidden.

    Values from YAML are validated in pydantic's strict JSON mode: a list becomes a tuple, an int a float, a string a
    path, and nothing else is converted. A config class lives beside what it configures and imports nothing heavy.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, populate_by_name=True, ser_json_inf_nan="constants"
    )


def execution(default: Any = ..., **options: Any) -> Any:
    """A field that cannot change a result (devices, workers, logging, paths): it stays out of fingerprints."""
    return Field(default, json_schema_extra={"execution": True}, **options)


class StageRef(Config):
    """`{from: organs}`: the files that an earlier stage of the same workflow leaves."""

    from_: str = Field(alias="from")
