"""What the golden record keeps of values and files, and how two records are compared."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

UNSTABLE = {
    *("versions", "platform", "git_revision", "command", "source", "transformers_version"),
    *("seconds", "latency_s", "files"),  # "files" holds when files were changed
}
"""Keys that tell when, where and by what something was made."""
UNREAD = {".html", ".svg", ".pdf", ".png", ".tex", ".onnx", ".mp4"}
"""Files that only have to be there: what is seen, and graphs, whose outputs are recorded."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def noted(value: Any) -> Any:
    """Any value as JSON; an array as the hash of its bytes with a few values."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return _noted_array(np.ascontiguousarray(value))
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(k): noted(v) for k, v in value.items() if k not in UNSTABLE}
    if isinstance(value, list | tuple):
        return [noted(item) for item in value]
    return value if isinstance(value, int | float | None) else str(value)


def _noted_array(array: np.ndarray) -> dict[str, Any]:
    kept = {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": sha256(array.tobytes()),
    }
    kept["first"] = array.ravel()[:4].tolist()
    if array.dtype.kind == "f":
        kept["norm"] = float(np.sqrt(np.nansum(array.astype(np.float64) ** 2)))
    return kept


def noted_parquet(path: Path) -> dict[str, Any]:
    """Type, number, hash and the first values of each column; what stands in the file's header."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    header = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    kept: dict[str, Any] = {key: header[key] for key in header if not key.startswith("ARROW")}
    for name in table.column_names:
        rows, kind = table[name].to_pylist(), str(table.schema.field(name).type)
        content = json.dumps(rows, default=str).encode()
        kept[name] = {"type": kind, "rows": len(rows), "sha256": sha256(content), "first": rows[:2]}
    return kept


def noted_tensors(path: Path) -> dict[str, Any]:
    """Each tensor of a safetensors file, and its header."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        tensors = {name: noted(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        header = {k: json.loads(v) if "{" in v else v for k, v in (file.metadata() or {}).items()}
    return {"header": noted(header), "tensors": tensors}


def noted_file(path: Path) -> Any:
    """The content of a file, as far as it says what was computed."""
    match path.suffix:
        case ".safetensors":
            return noted_tensors(path)
        case ".parquet":
            return noted_parquet(path)
        case ".npy":
            return noted(np.load(path))
        case ".json":
            return noted(json.loads(path.read_text("utf-8")))
        case ".jsonl":
            return [noted(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
        case ".toml":
            return noted(tomllib.loads(path.read_text("utf-8")))
        case ".csv":
            return path.read_text("utf-8").splitlines()
        case ".md":  # the tables; what stands around them is prose
            return [line for line in path.read_text("utf-8").splitlines() if line.startswith("|")]
        case ".pt":
            import torch

            return noted(torch.load(path, weights_only=True))
    return "there" if path.suffix in UNREAD else sha256(path.read_bytes())


def noted_folder(folder: Path | str) -> dict[str, Any]:
    """Every file below a folder by its name, but for hidden ones and TensorBoard's."""
    kept = {}
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".") and "tensorboard" not in name:
            kept[name] = noted_file(path)
    return kept


def differences(before: Any, now: Any, place: str) -> Iterator[str]:
    """One line for each value that is another, with where it stands."""
    if isinstance(before, dict) and isinstance(now, dict) and not _are_arrays(before, now):
        for key in dict.fromkeys([*before, *now]):
            if key not in now:
                yield f"{place}/{key}: is gone"
            elif key not in before:
                yield f"{place}/{key}: is new"
            else:
                yield from differences(before[key], now[key], f"{place}/{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(*pair, f"{place}/{number}")
    else:
        was, found = (json.dumps(value) for value in (before, now))  # NaN is itself, 1 is not 1.0
        if was != found:
            yield f"{place}: was {was[:300]}, now {found[:300]}"


def _are_arrays(*notes: dict[str, Any]) -> bool:
    return all({"dtype", "shape"} <= note.keys() for note in notes)
