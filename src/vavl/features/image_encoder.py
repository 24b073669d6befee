"""Pretrained image models of transformers as embedders of faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError
from vavl.faces.alignment import Face, align
from vavl.features.weights import Checkpoint, find_checkpoint, find_file, load_pretrained
from vavl.system.device import inference, usable_device
from vavl.system.onnx import onnx_extra, open_session, read_graph

DIM = 1408
"""Features before the classifier of an EfficientNet-B2."""

PUBLISHED_URL = (
    "https://raw.githubusercontent.com/sb-ai-lab/EmotiEffLib/"
    "af833487321c3efdcb1768a91a6c656a1986fdf6/models/affectnet_emotions/onnx/enet_b2_8.onnx"
)
"""EfficientNet-B2 tuned on the eight classes of AffectNet; Apache 2.0."""
PUBLISHED_SHA256 = "180a9d4845b59393de4511598a0d1d34b705034691ea32959ce5009db7cf52b7"

_USUAL_SIDE = 260
"""Of the pictures that EmotiEffLib gives its B2 networks."""
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
"""Of ImageNet, in red, green, blue."""


class EfficientNetB2Affectnet:
    """Embeds faces with an EfficientNet-B2 of EmotiEffLib; needs the extra ``vavl[onnx]``.

    The file gives the logits of its classes. Its last operation, the classifier, is cut off: the
    embedding is the input of that operation.

    Source: Savchenko 2021, "Facial expression and attributes recognition based on multi-task
    learning of lightweight neural networks" (arXiv 2103.17107), and sb-ai-lab/EmotiEffLib, whose
    sizes and normalisation these are.

    Differs from EmotiEffLib: faces are brought upright into the template of
    :func:`vavl.faces.alignment.template`, where EmotiEffLib stretches the box of the detector.

    Args:
        source: An ``.onnx`` file of the same interface, e.g. ``enet_b2_7.onnx``. Default: the file
            ``enet_b2_8.onnx`` at a fixed commit, downloaded once.
        sha256: What the file's SHA-256 must be, in hexadecimal. Default: no demand on a file that
            is given, and :data:`PUBLISHED_SHA256` for the download.
        margin: Space around the face on each side, as a share of the crop's side.
        device: Where the network runs: ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``. Without
            the CUDA provider of onnxruntime it runs on the CPU, and a warning is logged.

    Raises:
        InputError: The file is not there or has another interface, or the extra is missing.
        StoreError: The file is damaged, or keeps weights in other files.
    """

    name = "efficientnet-b2-affectnet"
    dim = DIM

    def __init__(
        self,
        source: str | None = None,
        sha256: str | None = None,
        margin: float = 0.0,
        device: str = "cpu",
    ) -> None:
        if source is None:
            sha256 = sha256 or PUBLISHED_SHA256
        self._path, self.weights_sha256 = find_file(source or PUBLISHED_URL, sha256)
        self.source = None if source is None else str(self._path)
        self._margin = margin
        self.device = device
        self._side, self._per_pass, _ = _without_classifier(self._path)
        self._session: Any = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What changes the numbers."""
        return {"margin": self._margin, "side": self._side}

    def load(self) -> None:
        """Reads the weights now instead of with the first face."""
        if self._session is None:
            import torch

            _, _, content = _without_classifier(self._path)
            self._session = open_session(
                content, str(self._path), torch.get_num_threads(), usable_device(self.device)
            )

    def embed_faces(
        self, frames: Sequence[NDArray[np.uint8]], faces: Sequence[Face]
    ) -> NDArray[np.float32]:
        """Embeds one face of each frame: N times ``(H, W, 3)`` to ``(N, 1408)``."""
        self.load()
        crops = align(frames, faces, self._side, self._margin)
        [given] = self._session.get_inputs()
        parts = [
            self._session.run(None, {given.name: pixels})[0]
            for pixels in normalised_pixels(crops, _MEAN, _STD, self._per_pass)
        ]
        return np.concatenate(parts)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads the weights from disk, which is cheaper than sending them.
        return {**self.__dict__, "_session": None}


def _without_classifier(path: Path) -> tuple[int, int, bytes]:
    """Side of the pictures, faces in a pass, and the model that ends with the embedding."""
    onnx = onnx_extra("onnx")
    model = read_graph(path.read_bytes(), str(path))
    graph = model.graph
    initial = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    # Older files list their weights among the inputs.
    shapes = [
        [axis.dim_value or None for axis in value.type.tensor_type.shape.dim]
        for value in graph.input
        if value.name not in initial
    ]
    last = graph.node[-1]
    classifier = initial.get(last.input[1]) if last.op_type == "Gemm" else None
    problems = []
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3:
        problems.append(f"expected one input (N, 3, H, W), got {shapes}")
    elif shapes[0][2] != shapes[0][3] or shapes[0][0] not in (None, 1):
        problems.append(f"expected square pictures, any number or one at a time, got {shapes[0]}")
    if [value.name for value in graph.output] != list(last.output):
        problems.append("expected one output, that of the last operation")
    if classifier is None or DIM not in classifier:
        problems.append(
            f"expected a classifier of {DIM} features (Gemm) at the end, got {last.op_type} with "
            f"weights {classifier}"
        )
    if problems:
        raise InputError(
            f"{path}: is this an EfficientNet-B2 of EmotiEffLib? " + "; ".join(problems)
        )
    embedding = onnx.helper.make_tensor_value_info(
        last.input[0], onnx.TensorProto.FLOAT, [None, DIM]
    )
    graph.node.pop()
    graph.output.pop()
    graph.output.append(embedding)
    batch, _, side, _ = shapes[0]
    return side or _USUAL_SIDE, batch or FACES_PER_PASS, model.SerializeToString()


FACES_PER_PASS = 16
_USUAL_SIZE = 224

Pooling = Literal["mean", "first"]


class ImageEncoder:
    """Embeds faces with any image model of transformers: ViT, BEiT, DINOv2, ConvNeXt, ResNet, ...

    Faces are brought upright into the template of :func:`vavl.faces.alignment.template`, at the
    size of the model's input, and normalised with its mean and deviation. The embedding is the last
    hidden state, averaged over the picture; a checkpoint's pooling layer may be untrained.

    Args:
        source: A folder, or a hub id ``org/name`` or ``org/name@revision``.
        revision: Branch, tag or commit on the hub.
        margin: Space around the face on each side, as a share of the crop's side.
        pooling: ``"mean"`` over all positions, or ``"first"``: the class token of a transformer.
        device: Where the network runs: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` or
            ``"auto"``. It does not enter the store's key.

    Raises:
        InputError: The source cannot be found, or is no image model.
    """

    name = "hf"

    def __init__(
        self,
        source: str,
        revision: str | None = None,
        margin: float = 0.2,
        pooling: Pooling = "mean",
        device: str = "cpu",
    ) -> None:
        if pooling not in ("mean", "first"):
            raise InputError(f"pooling: expected 'mean' or 'first', got {pooling!r}")
        self._checkpoint = find_checkpoint(source, revision)
        settings = self._checkpoint.preprocessor_config
        self._size = _side(self._checkpoint, settings)
        self._mean, self._std = (
            np.array(settings.get(key, [0.5, 0.5, 0.5]), np.float32)
            for key in ("image_mean", "image_std")
        )
        if self._mean.shape != (3,) or self._std.shape != (3,) or not (self._std > 0).all():
            raise InputError(
                f"{self._checkpoint.source}: expected image_mean and image_std of three channels"
            )
        self._margin = margin
        self._pooling = pooling
        self.device = device
        config = self._checkpoint.config
        widths = config.get("hidden_sizes")
        found = widths[-1] if isinstance(widths, list) and widths else config.get("hidden_size")
        if not isinstance(found, int):
            raise InputError(
                f"{self._checkpoint.source}: expected an image model with hidden_size or "
                f"hidden_sizes, got {self._checkpoint.model_type!r}"
            )
        self.dim = found
        self._model: Any = None

    @property
    def source(self) -> str:
        """Where the weights come from."""
        return self._checkpoint.source

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights."""
        return self._checkpoint.weights_sha256

    @property
    def parameters(self) -> dict[str, Any]:
        """What changes the numbers."""
        return {
            "margin": self._margin,
            "pooling": self._pooling,
            "model_type": self._checkpoint.model_type,
            "config_sha256": self._checkpoint.config_sha256(),
        }

    def load(self) -> None:
        """Reads the weights now instead of with the first face."""
        if self._model is None:
            model = load_pretrained(self._checkpoint, optional=("pooler.",))
            self._model = model.to(usable_device(self.device))

    def embed_faces(
        self, frames: Sequence[NDArray[np.uint8]], faces: Sequence[Face]
    ) -> NDArray[np.float32]:
        """Embeds one face of each frame: N times ``(H, W, 3)`` to ``(N, D)``."""
        import torch

        self.load()
        device = self._model.device
        crops = align(frames, faces, self._size, self._margin)
        parts = []
        for pixels in normalised_pixels(crops, self._mean, self._std):
            with inference(device):
                hidden = self._model(torch.from_numpy(pixels).to(device)).last_hidden_state
            if hidden.ndim == 4:  # of a convolutional model: (n, D, h, w)
                hidden = hidden.flatten(2).transpose(1, 2)
            pooled = hidden[:, 0] if self._pooling == "first" else hidden.mean(1)
            parts.append(pooled.cpu().numpy())
        return np.concatenate(parts)

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads the weights from disk, which is cheaper than sending them.
        return {**self.__dict__, "_model": None}


def normalised_pixels(
    crops: NDArray[np.uint8],
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    per_pass: int = FACES_PER_PASS,
) -> Iterator[NDArray[np.float32]]:
    """Crops ``(N, S, S, 3)`` as input ``(n, 3, S, S)`` of image networks, ``per_pass`` at a time.

    Mean and deviation ``(3,)`` are those of pixels in [0, 1].
    """
    for start in range(0, len(crops), per_pass):
        pixels = crops[start : start + per_pass].astype(np.float32) / np.float32(255)
        yield ((pixels - mean) / std).transpose(0, 3, 1, 2).copy()


def _side(checkpoint: Checkpoint, settings: Any) -> int:
    """Side of the model's square input."""
    sizes = (settings.get("crop_size"), settings.get("size"), checkpoint.config.get("image_size"))
    for size in sizes:
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge")
        if isinstance(size, int) and size >= 1:
            return size
    return _USUAL_SIZE
