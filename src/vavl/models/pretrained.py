"""Models on disk and on the Hugging Face hub.

A folder holds ``config.json`` (sizes and outputs), ``model.safetensors`` (weights and the
normalisation of the features); for a model that shall read media, ``features.json`` (how the
features of each modality were made); for one with an encoder that was tuned with it,
``encoders.json`` (which one, and what was tuned: that stands among the weights); and for one whose
probabilities were calibrated, ``calibration.json`` (a temperature per prediction, and below which
confidence a label is unsure).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vavl.config.base import validated
from vavl.config.experiment import model_config_class
from vavl.config.models import SCHEMA_VERSION, ModelConfig
from vavl.errors import InputError, StoreError, all_problems
from vavl.system.atomic import atomic_write, read_json, write_json
from vavl.system.extras import extra
from vavl.types import STREAMS, FeatureSpec, Modality

if TYPE_CHECKING:  # names of files are wanted where nothing is loaded
    from torch import Tensor, nn

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FEATURES_FILE = "features.json"
ENCODERS_FILE = "encoders.json"
CALIBRATION_FILE = "calibration.json"
CARD_FILE = "README.md"
"""Model card, as on the hub."""


def write_model(directory: Path, config: ModelConfig, state: Mapping[str, Tensor]) -> None:
    """Writes a model into a folder, made if needed; each file appears whole or not at all."""
    from safetensors.torch import save

    write_json(directory / CONFIG_FILE, SCHEMA_VERSION, config.model_dump(mode="json"))
    with atomic_write(directory / WEIGHTS_FILE) as temporary:
        # Not save_file: what it writes is private to its owner.
        content = save({name: value.contiguous().cpu() for name, value in state.items()})
        temporary.write_bytes(content)


def resolve_model(
    source: Path | str,
    *,
    revision: str | None,
    cache_dir: Path | str | None,
    local_files_only: bool,
) -> Path:
    """The local folder of a model: the source itself, or the hub's snapshot in the cache.

    Raises StoreError if it is no folder with a model, and no hub id that can be reached.
    """
    folder = Path(source)
    if folder.is_dir():
        return _checked_folder(folder)
    if folder.is_absolute() or len(folder.parts) > 2 or folder.parts[:1] == ("..",):
        raise StoreError(
            f"model: expected a folder or a hub id, got {str(source)!r}, which is no folder here"
        )
    with extra("hub", "models of a hub"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )

    try:
        folder = Path(
            snapshot_download(
                str(source),
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                allow_patterns=[
                    *(CONFIG_FILE, WEIGHTS_FILE, FEATURES_FILE, ENCODERS_FILE),
                    *(CALIBRATION_FILE, CARD_FILE),
                ],
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise StoreError(
            f"model: expected compact, a folder or a hub id, got {str(source)!r}: no such folder, "
            "and the Hugging Face hub has no such model or cannot be reached "
            f"({str(error).splitlines()[0]})"
        ) from error
    return _checked_folder(folder)


def _checked_folder(folder: Path) -> Path:
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise StoreError(f"model: {folder} lacks {' and '.join(missing)}; is it a model folder?")
    return folder


def read_model_config(folder: Path) -> ModelConfig:
    """Reads ``config.json``; without a name, as in files of the first releases, it is VAVL's."""
    path = folder / CONFIG_FILE
    content = read_json(path, SCHEMA_VERSION)
    cls = model_config_class(str(content.get("name", "vavl")), f"{path}: name")
    return validated(cls, content, str(path))


def write_features(folder: Path, features: Mapping[Modality, FeatureSpec]) -> None:
    """Writes ``features.json``: how the features of each modality were made."""
    content = {str(modality): spec.to_dict() for modality, spec in features.items()}
    write_json(folder / FEATURES_FILE, SCHEMA_VERSION, content)


def read_features(folder: Path) -> dict[Modality, FeatureSpec]:
    """Reads ``features.json``; StoreError if it is missing or damaged."""
    path = folder / FEATURES_FILE
    content = read_json(path, SCHEMA_VERSION)
    try:
        return {Modality(name): FeatureSpec.from_dict(spec) for name, spec in content.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: damaged ({type(error).__name__}: {error})") from None


def write_encoders(folder: Path, encoders: Mapping[Modality, Mapping[str, Any]]) -> None:
    """Writes ``encoders.json``: descriptions of the encoders in front; no file without any."""
    if encoders:
        content = {str(modality): dict(encoder) for modality, encoder in encoders.items()}
        write_json(folder / ENCODERS_FILE, SCHEMA_VERSION, content)


def read_encoders(folder: Path) -> dict[Modality, dict[str, Any]]:
    """Reads ``encoders.json``; empty where there is none. StoreError if it is damaged."""
    path = folder / ENCODERS_FILE
    if not path.is_file():
        return {}
    content = read_json(path, SCHEMA_VERSION)
    if not all(name in STREAMS and isinstance(value, dict) for name, value in content.items()):
        raise StoreError(f"{path}: damaged: expected a table for each modality")
    return {Modality(name): value for name, value in content.items()}


_COLDEST, _HOTTEST = 1e-3, 1e3
"""Of temperatures, which lie near 1: beyond, probabilities are 0 and 1, or all alike."""


@dataclass(frozen=True)
class Calibration:
    """What makes probabilities mean what they say, and when they say too little.

    Attributes:
        temperatures: What the logits of each prediction are divided by; 1 where none is given.
        unsure_below: In [0, 1): with a confidence below it, the label is :data:`vavl.types.UNSURE`.
            With 0, it never is.

    Raises:
        InputError: A key or a number that is none of these.

    Example:
        >>> Calibration({Modality.ACOUSTIC: 1.5}, unsure_below=0.4).unsure_below
        0.4
    """

    temperatures: Mapping[Modality, float] = field(default_factory=dict)
    unsure_below: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        for name, value in self.temperatures.items():
            if name not in list(Modality):
                problems.append(
                    f"{name}: expected temperatures of {', '.join(Modality)} alone, got {value!r}"
                )
            elif not (_is_number(value) and _COLDEST <= value <= _HOTTEST):
                problems.append(
                    f"{name}: expected a temperature from {_COLDEST} to {_HOTTEST}, got {value!r}"
                )
        if not (_is_number(self.unsure_below) and 0 <= self.unsure_below < 1):
            problems.append(
                f"unsure_below: expected a probability in [0, 1), got {self.unsure_below!r}"
            )
        if problems:
            raise InputError(all_problems("calibration", problems))
        temperatures = {Modality(name): float(value) for name, value in self.temperatures.items()}
        object.__setattr__(self, "temperatures", temperatures)
        object.__setattr__(self, "unsure_below", float(self.unsure_below))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Writes ``calibration.json``; earlier releases read it as long as nothing is unsure."""
    content = {str(name): value for name, value in calibration.temperatures.items()}
    if calibration.unsure_below:
        content["unsure_below"] = calibration.unsure_below
    write_json(folder / CALIBRATION_FILE, SCHEMA_VERSION, content)


def read_calibration(folder: Path) -> Calibration:
    """Reads ``calibration.json``; without it, temperatures are 1 and nothing is unsure.

    Raises:
        StoreError: It is damaged, or holds what no calibration can hold.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return Calibration()
    content: dict[Any, Any] = read_json(path, SCHEMA_VERSION)
    unsure_below = content.pop("unsure_below", 0.0)
    try:
        return Calibration(content, unsure_below)
    except InputError as error:
        raise StoreError(f"{path}: {error}") from None


def check_sizes(folder: Path, expected: Mapping[str, Tensor]) -> None:
    """Compares the weights' header with what a model expects, before memory is taken for either.

    Args:
        folder: Of the model.
        expected: Tensors of its ``state_dict``, without data (on the device ``meta``).

    Raises:
        StoreError: A weight is missing or of another shape, or the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            found = {n: tuple(file.get_slice(n).get_shape()) for n in names & expected.keys()}
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path}: damaged or cut short ({error}); copy it again") from error
    problems = [
        f"{name}: expected {tuple(value.shape)}, got {found.get(name, 'none')}"
        for name, value in expected.items()
        if found.get(name) != tuple(value.shape)
    ]
    if problems:
        raise StoreError(
            all_problems(f"{path}: does not fit the configuration beside it", problems, limit=5)
        )


def load_weights(model: nn.Module, folder: Path) -> None:
    """Loads ``model.safetensors``; StoreError if it is damaged, or does not fit the model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS_FILE
    try:
        state = load_file(path)
        if wrong := [name for name, value in state.items() if not value.isfinite().all()]:
            raise StoreError(
                all_problems(f"{path}: damaged", [f"{n}: NaN or infinite" for n in wrong], limit=5)
            )
        model.load_state_dict(state)
    except SafetensorError as error:
        raise StoreError(f"{path}: damaged or cut short ({error}); copy it again") from error
    except RuntimeError as error:
        raise StoreError(f"{path}: does not fit the configuration beside it: {error}") from error
