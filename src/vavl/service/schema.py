"""JSON Schema of what the service answers: docs/prediction.schema.json, and OpenAPI."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from vavl.types import SCHEMA_VERSION, Prediction

_CONFIDENCE = {
    "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}],
    "description": "Calibrated probability of the most probable category; null without any.",
}


def prediction_schema(references: str = "#/$defs/{model}") -> dict[str, Any]:
    """Schema of :meth:`vavl.types.Prediction.to_dict`.

    Args:
        references: Where one part of the schema finds another.

    Example:
        >>> prediction_schema()["properties"]["schema_version"]["const"]
        1
    """
    parts = TypeAdapter(Prediction).json_schema(ref_template=references, mode="serialization")[
        "$defs"
    ]
    for part in parts.values():
        if "description" in part:  # a docstring, whose example is for Python
            part["description"] = part["description"].partition("\n\nExample:")[0]
        if "probabilities" in part.get("properties", {}):
            part["properties"]["confidence"] = _CONFIDENCE  # pydantic sees arguments alone
            part["required"] = list(part["properties"])
    version = {"const": SCHEMA_VERSION, "description": "New fields alone do not change it."}
    return {
        "title": "Prediction of a clip",
        "allOf": [{"$ref": references.format(model="Prediction")}],
        "properties": {"schema_version": version},
        "required": ["schema_version"],
        "$defs": parts,
    }
