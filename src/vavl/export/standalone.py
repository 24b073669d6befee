"""Graphs of the whole way: samples and pictures of faces in, probabilities out, nothing beside.

All uses are traced at once and then cut apart, since tracing is what takes the time. Whoever reads
a file finds in its metadata what comes in, what comes out, and what is not in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from vavl import __version__
from vavl.config.models import ModelConfig
from vavl.data.corpora.synthetic_drawing import draw_look, film
from vavl.data.corpora.synthetic_signals import UNIT_COLUMNS
from vavl.errors import ExportError
from vavl.export.graphs import (
    Exportable,
    Unimodal,
    cut_use,
    onnx_model,
    streams_of,
    use_values,
)
from vavl.export.senses import Sense, build_senses
from vavl.features.compact_face import CROP_SIZE, LUMA, CompactFaceFeatures
from vavl.inference.exported import Graph
from vavl.inference.reader import FeatureArrays
from vavl.inference.recognizer import Recognizer
from vavl.inference.windows import LONGEST_S, Window
from vavl.media.audio import SAMPLING_RATE_HZ
from vavl.models.sequences import Sequences
from vavl.system.onnx import onnx_extra, open_session
from vavl.types import Modality

PROBABILITIES, ATTRIBUTES = "probabilities", "attributes"
"""Names of what comes out: ``(1, categories)`` and ``(1, attributes)``, where a model has them."""

NOT_INSIDE = (
    "decoding and resampling; voice activity; face detection and alignment; cutting clips of more "
    "than part_s into parts, whose probabilities are averaged; calling an answer unsure"
)

STANDALONE_TOLERANCE = 1e-3
"""Largest difference of a probability, or of an attribute in [0, 1], that counts as the same."""

_CHECKED = ((None, 1), (2.345, 7), (LONGEST_S, 40))
"""Seconds of sound, None for the shortest, and pictures of faces that a graph is checked with."""
_SMALL = 4096
"""Values of a tensor that is not worth storing in fewer bits."""


class StandaloneGraph(nn.Module):
    """The whole way of a model for all its uses, as a function of tensors.

    Args:
        recognizer: Whose answers it gives.
        senses: By modality.
        uses: The predictions that are wanted.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        senses: Mapping[Modality, Sense],
        uses: tuple[Modality, ...],
    ) -> None:
        super().__init__()
        assert isinstance(recognizer.model, Exportable)
        self.model = recognizer.model
        self.temperatures = recognizer.calibration.temperatures
        self.senses = nn.ModuleDict({str(m): sense.network for m, sense in senses.items()})
        self.uses = uses

    def forward(self, *media: Tensor) -> tuple[Tensor, ...]:
        """What :meth:`names` names, from what comes in of each modality."""
        unimodal: Unimodal = {}
        found = []
        for (stream, sense), x in zip(self.senses.items(), media, strict=True):
            modality = Modality(stream)
            features, mask = sense(x)
            found.append(features.masked_fill(~mask[..., None], math.nan)[0])
            normalised = self.model.normalisation(modality).normalise(features)
            unimodal[modality] = self.model.encode(modality, Sequences.whole(normalised, mask))
        split = len(self.model.config.categories)
        for use in self.uses:
            values = use_values(self.model, use, unimodal)
            if split:
                logits = values[:, :split] / self.temperatures.get(use, 1.0)
                found.append(logits.softmax(1))
            if self.model.config.attributes:
                found.append(values[:, split:].clamp(0, 1))
        return tuple(found)

    def names(self) -> list[str]:
        """Of what comes out: features of each modality, then the answers of each use."""
        answers = answer_names(self.model.config)
        features = [_features(Modality(stream)) for stream in self.senses]
        return features + [f"{use}.{answer}" for use in self.uses for answer in answers]


def answer_names(config: ModelConfig) -> list[str]:
    """What a model's answer consists of."""
    return [PROBABILITIES] * bool(config.categories) + [ATTRIBUTES] * bool(config.attributes)


def _features(stream: Modality) -> str:
    """Name of the output that holds the features of a modality."""
    return f"{stream}_features"


def write_standalone(
    recognizer: Recognizer,
    paths: Mapping[Modality, Path],
    title: str,
    licences: Mapping[str, str],
) -> Iterator[tuple[Modality, float]]:
    """Writes the graph of each use, and yields by how much its answers differ from vavl's.

    Args:
        recognizer: Whose answers are to be given; its model is one that can be exported.
        paths: Of the files to write, by use.
        title: What the metadata call the model.
        licences: Of the model's own weights, by name, for the metadata.

    Raises:
        InputError: One of its extractors has no graph.
        ExportError: An answer differs by more than :data:`STANDALONE_TOLERANCE`.
    """
    senses = build_senses(recognizer.reader, streams_of(*paths))
    graph = StandaloneGraph(recognizer, senses, tuple(paths)).eval()
    whole = onnx_model(
        graph,
        inputs={sense.name: sense.example for sense in senses.values()},
        axes=[sense.axes for sense in senses.values()],
        outputs=graph.names(),
    )
    for use, path in paths.items():
        own = {stream: senses[stream] for stream in streams_of(use)}
        part = cut_use(whole, use, [s.name for s in own.values()], [_features(s) for s in own])
        _store_in_fewer_bits(part.graph)
        _describe(part, recognizer, use, own, title, licences)
        path.write_bytes(part.SerializeToString())
        session = open_session(path.read_bytes(), path.name, threads=1)
        yield use, check_standalone(recognizer, use, session)


def _describe(
    part: Any,
    recognizer: Recognizer,
    use: Modality,
    senses: Mapping[Modality, Sense],
    title: str,
    licences: Mapping[str, str],
) -> None:
    """Writes what a reader must know into the metadata of a graph, as text or as JSON."""
    calibration = recognizer.calibration
    about = {
        "model": title,
        "vavl_version": __version__,
        "use": str(use),
        "categories": recognizer.categories,
        "attributes": recognizer.attributes,
        "temperature": calibration.temperatures.get(use, 1.0),
        "unsure_below": calibration.unsure_below,
        **{sense.name: sense.about for sense in senses.values()},
        "not_inside": NOT_INSIDE,
        "licences": {
            **licences,
            **{recognizer.features[m].extractor: sense.licence for m, sense in senses.items()},
        },
    }
    texts = {key: x if isinstance(x, str) else json.dumps(x) for key, x in about.items()}
    onnx_extra("onnx.helper").set_model_props(part, texts)


def _store_in_fewer_bits(graph: Any) -> None:
    """Stores large tensors in 8 or 16 bits where that loses nothing; the graph widens them again.

    The weights of whisper-base come in 8 bits with a scale for each row, its positions and other
    weights in half precision. onnxruntime widens them once, when it opens the file.
    """
    helper, numpy_helper = onnx_extra("onnx.helper"), onnx_extra("onnx.numpy_helper")
    single = onnx_extra("onnx").TensorProto.FLOAT
    stored, widening = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        narrow = _narrowed(values) if values.dtype == np.float32 else None
        if narrow is None:
            stored.append(tensor)
            continue
        few, scale = narrow
        name = tensor.name
        stored.append(numpy_helper.from_array(few, f"{name}.stored"))
        widened = name if scale is None else f"{name}.widened"
        widening.append(helper.make_node("Cast", [f"{name}.stored"], [widened], to=single))
        if scale is not None:
            stored.append(numpy_helper.from_array(scale, f"{name}.scale"))
            widening.append(helper.make_node("Mul", [widened, f"{name}.scale"], [name]))
    nodes = [*widening, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(stored)
    graph.node.extend(nodes)


def _narrowed(
    values: NDArray[np.float32],
) -> tuple[NDArray[Any], NDArray[np.float32] | None] | None:
    """The same values in half precision, or in 8 bits with a scale for each row; None if not."""
    if values.size < _SMALL:
        return None
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if np.array_equal(half.astype(np.float32), values):
        return half, None
    if values.ndim != 2:
        return None
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    steps = (values / np.where(scale, scale, 1)).round()
    # What came in 8 bits comes back up to the last digit.
    if not np.allclose(steps * scale, values, rtol=1e-6, atol=0):
        return None
    return steps.astype(np.int8), scale


def check_standalone(recognizer: Recognizer, use: Modality, graph: Graph) -> float:
    """The largest difference of a graph's answers from those of vavl.

    Raises:
        ExportError: It is more than :data:`STANDALONE_TOLERANCE`.
    """
    outputs = answer_names(recognizer.model.config)
    largest = 0.0
    for seconds, pictures in _CHECKED:
        media, features = example_media(recognizer, use, seconds, pictures)
        end_s = seconds or recognizer.reader.shortest_s
        window = Window(0.0, end_s, np.zeros(0, np.float32), ())
        expected = recognizer.predict_window(window, features=features)
        answer = [*expected.probabilities.values(), *expected.attributes.values()]
        found = np.concatenate([y[0] for y in graph.run(outputs, media)])
        difference = float(np.nan_to_num(np.abs(found - answer), nan=math.inf).max())
        if difference > STANDALONE_TOLERANCE:
            raise ExportError(
                f"{use}: for {end_s:g} s of sound and {pictures} pictures the graph differs from "
                f"vavl by {difference:.2g}, more than {STANDALONE_TOLERANCE:g}; nothing was "
                "exported"
            )
        largest = max(largest, difference)
    return largest


def example_media(
    recognizer: Recognizer, use: Modality, seconds: float | None, pictures: int
) -> tuple[dict[str, NDArray[Any]], FeatureArrays]:
    """A seeded sound and drawn faces, and the features that vavl makes of them.

    The sound grows louder from nothing. Of several pictures, the second one is without a face.
    """
    rng = np.random.default_rng(pictures)
    media: dict[str, NDArray[Any]] = {}
    features: FeatureArrays = {}
    if use is not Modality.VISUAL:
        count = math.ceil((seconds or recognizer.reader.shortest_s) * SAMPLING_RATE_HZ)
        sound = rng.normal(0, 0.2, count) * np.linspace(0, 1, count) ** 3
        media["waveform"] = sound.astype(np.float32)[None]
        features[Modality.ACOUSTIC] = recognizer.reader.acoustic_extractor.extract(
            media["waveform"][0], is_speech=True
        )
    if use is not Modality.ACOUSTIC:
        embedder = recognizer.reader.visual_extractor.embedder
        assert isinstance(embedder, CompactFaceFeatures)
        faces = drawn_faces(rng, pictures)
        embeddings = embedder.embed((faces @ LUMA).round().astype(np.uint8))
        if pictures > 1:
            faces[1], embeddings[1] = 0, np.nan
        media["faces"], features[Modality.VISUAL] = faces, embeddings
    return media, features


def drawn_faces(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """``(count, 48, 48, 3)`` crops of one drawn face, in which something can be read."""
    drawn = film(rng, draw_look(rng, female=False), rng.uniform(0, 3, (count, len(UNIT_COLUMNS))))
    # The middle of a picture of 160 pixels a side, at half the size.
    crops = [picture[40:136, 32:128].reshape(CROP_SIZE, 2, CROP_SIZE, 2, 3) for picture in drawn]
    return np.stack(crops).mean(axis=(2, 4)).round().astype(np.uint8)
