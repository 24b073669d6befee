"""Exported models: folders that ``vavl export`` writes, run by onnxruntime instead of torch.

A folder holds what a model folder holds (``config.json``, ``features.json``, ``calibration.json``).
The weights, however, are in the graphs, one for each use: ``acoustic.onnx``, ``visual.onnx`` and
``audiovisual.onnx``. Beside them lie ``normalisation.safetensors``, the training statistics again,
which adapting to a speaker needs, and ``export.json``: the format, by how much the graphs differ
from the model, and the notice of the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vavl.config.models import ModelConfig
from vavl.errors import StoreError
from vavl.models.base import EmotionModel, ModelOutput, Normalisation
from vavl.models.pretrained import read_model_config
from vavl.models.sequences import checked_batch
from vavl.system.atomic import read_json
from vavl.system.notices import say_once
from vavl.system.onnx import open_session
from vavl.types import STREAMS, Modality

EXPORT_FILE = "export.json"
EXPORT_SCHEMA_VERSION = 2
"""Version of ``export.json`` and of what the graphs take and give."""

NORMALISATION_FILE = "normalisation.safetensors"

PREDICTION = "prediction"
"""Name of the output of each graph."""

_log = logging.getLogger(__name__)


class Graph(Protocol):
    """One use of a model, e.g. as an ``onnxruntime.InferenceSession``."""

    def run(self, names: Sequence[str], inputs: Mapping[str, Any]) -> Sequence[Any]:
        """Named outputs of named inputs, all of them numpy arrays."""


class ExportedModel:
    """The graphs of a model, one for each use; it takes the inputs of :class:`vavl.VAVL`."""

    def __init__(
        self,
        config: ModelConfig,
        graphs: Mapping[Modality, Graph],
        normalisations: Mapping[Modality, Normalisation],
    ) -> None:
        self.config = config
        self.graphs = dict(graphs)
        self.normalisations = dict(normalisations)

    @classmethod
    def from_folder(cls, folder: Path, *, threads: int | None = None) -> ExportedModel:
        """Opens a folder that ``vavl export`` wrote; by default with as many threads as torch has.

        Raises:
            StoreError: Missing or damaged files, another schema version, or the format ``torch``.
            InputError: The extra ``vavl[onnx]`` is not installed.
        """
        content = read_json(folder / EXPORT_FILE, EXPORT_SCHEMA_VERSION)
        if content.get("format") != "onnx":
            raise StoreError(
                f"{folder}: expected graphs in the format onnx, got {content.get('format')!r}; "
                "opening a .pt2 file may run code, so vavl leaves that to you (torch.export.load)"
            )
        if content.get("standalone"):
            raise StoreError(
                f"{folder}: expected graphs of features, got standalone ones, which are for "
                "programs without vavl; load the model itself, or export it without --standalone"
            )
        config = read_model_config(folder)
        graphs = {}
        for use in uses(config):
            path = folder / f"{use}.onnx"
            if not path.is_file():
                raise StoreError(f"{folder} lacks {path.name}; was it copied whole?")
            graphs[use] = open_session(
                path.read_bytes(), str(path), threads or torch.get_num_threads()
            )
        if notice := content.get("notice"):
            say_once(_log, notice)
        return cls(config, graphs, _read_normalisations(folder, config))

    def __call__(self, **inputs: Tensor | None) -> ModelOutput:
        """Predicts as :meth:`vavl.VAVL.forward` does; only ``prediction`` is given."""
        dims = {m: self.config.dim(m) for m in self.config.inputs}
        batch = checked_batch(dims, **inputs)
        clips = len(next(iter(batch.values()))[0])
        has = {stream: mask.any(1).tolist() for stream, (_, mask) in batch.items()}
        modality = [self._use({s for s in has if has[s][clip]}) for clip in range(clips)]
        prediction = torch.full((clips, self.config.outputs), torch.nan)
        for use in Modality:
            if use not in modality:
                continue
            chosen = torch.tensor([found is use for found in modality])
            part = {stream: (x[chosen], mask[chosen]) for stream, (x, mask) in batch.items()}
            prediction[chosen] = self._run(use, part)
        return ModelOutput(None, None, None, prediction, modality)

    def normalisation(self, modality: Modality) -> Normalisation:
        """The statistics by which the graphs normalise features of a modality."""
        return self.normalisations[modality]

    def _use(self, modalities: set[Modality]) -> Modality | None:
        """The graph for a clip that has some modalities: both at once if there is one for both."""
        if modalities == set(STREAMS) and Modality.AUDIOVISUAL in self.graphs:
            return Modality.AUDIOVISUAL
        return next((stream for stream in STREAMS if stream in modalities & set(self.graphs)), None)

    def _run(self, use: Modality, batch: Mapping[Modality, tuple[Tensor, Tensor]]) -> Tensor:
        arrays = {}
        for stream in STREAMS if use is Modality.AUDIOVISUAL else (use,):
            x, mask = batch[stream]
            arrays[str(stream)] = x.float().numpy()
            arrays[f"{stream}_mask"] = mask.numpy()
        [values] = self.graphs[use].run([PREDICTION], arrays)
        return torch.from_numpy(values)


def write_normalisations(folder: Path, model: EmotionModel) -> None:
    """Writes the training statistics of a model into the folder of its export."""
    content = save(
        {
            f"{modality}.{name}": values.contiguous()
            for modality in model.config.inputs
            for name, values in model.normalisation(modality).state_dict().items()
        }
    )
    (folder / NORMALISATION_FILE).write_bytes(content)  # save_file's would be private to its owner


def _read_normalisations(folder: Path, config: ModelConfig) -> dict[Modality, Normalisation]:
    path = folder / NORMALISATION_FILE
    found = {}
    try:
        tensors = load_file(path)
        for modality in config.inputs:
            found[modality] = Normalisation(config.dim(modality))
            names = found[modality].state_dict()
            found[modality].load_state_dict({n: tensors[f"{modality}.{n}"] for n in names})
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise StoreError(
            f"{path}: missing, damaged, or of another model ({error}); export the model again"
        ) from error
    return found


def uses(config: ModelConfig) -> tuple[Modality, ...]:
    """What a model can be used for, one graph each; for lack of fusion it averages two predictions.

    Example:
        >>> from vavl.config.models import VAVLConfig
        >>> sizes = {"acoustic_dim": 4, "visual_dim": 4, "categories": ("a", "b")}
        >>> [str(use) for use in uses(VAVLConfig(**sizes, predictions=("acoustic",)))]
        ['acoustic']
    """
    streams = tuple(stream for stream in STREAMS if stream in config.predictions)
    return (*streams, Modality.AUDIOVISUAL) if streams == STREAMS else streams
