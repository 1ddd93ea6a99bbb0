"""The deployment gate's policy: `[tool.doctor.gate]` of the configuration."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat

FailOn = Literal["error", "warning", "info", "never"]
Precision = Literal["float64", "float32", "float16", "bfloat16", "int8", "int4"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def _bytes(value: Any) -> Any:
    """`500 MB` and `1.5 GiB` as a number of bytes; anything else as it is, for the model to judge."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", value, re.I)
    if found is None:
        raise ValueError(f'"{value}" is no size; write a number of bytes, or for example "500 MB" or "2 GiB"')
    return int(float(found[1]) * _UNITS[(found[2] or "").lower()])


Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]


class GatePolicy(BaseModel):
    """What an artifact must be like to pass; what is None or empty asks for nothing.

    `fail_on`, `select` and `ignore` replace those of `[tool.doctor]` at the gate. `require` are rules that must have
    looked. `tolerance` is the largest error of an output that passes, as a share of the output's standard deviation, by
    the lowest precision on either side; precisions that it does not name keep the gate's own. `max_size` bounds the bytes of all files together
    ("2 GiB"), `formats` are the formats that may pass (as `doctor gate` names them: `safetensors`, `onnx`, ...).
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True
    )

    fail_on: FailOn | None = None
    select: tuple[str, ...] = ()
    ignore: dict[str, str] = Field(default_factory=dict)
    require: tuple[str, ...] = ()
    tolerance: dict[Precision, PositiveFloat] = Field(default_factory=dict)
    max_size: Bytes | None = None
    formats: tuple[str, ...] = ()
