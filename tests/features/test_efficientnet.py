"""The paper's visual features, on small files with the interface of EmotiEffLib's."""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vavl.errors import InputError, StoreError
from vavl.faces.alignment import Face, align, template
from vavl.features import efficientnet
from vavl.features.efficientnet import DIM, EfficientNetB2Affectnet
from vavl.features.registry import build_extractor, extractor_names, rebuild_extractor

NAME = EfficientNetB2Affectnet.name
Network = Callable[..., Path]
SIDE = 12


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """Writes a network of EmotiEffLib's interface: four channels, pooled, and a classifier."""

    def write(
        name: str = "enet_b2_8.onnx",
        *,
        batch: int | str = "batch_size",
        side: int | str = SIDE,
        dim: int = DIM,
        last: str = "Gemm",
        channels: int = 3,
        more_outputs: tuple[str, ...] = (),
        edit: Callable[[Any], None] = lambda _: None,
    ) -> Path:
        generator = np.random.default_rng(0)
        weights = {
            "kernel": generator.normal(size=(4, channels, 3, 3)),
            "widen": generator.normal(size=(4, dim)),
            "classifier.weight": generator.normal(size=(8, dim)),
            "classifier.bias": generator.normal(size=8),
        }
        logits = (
            helper.make_node("Gemm", ["features", *list(weights)[2:]], ["output"], transB=1)
            if last == "Gemm"
            else helper.make_node(last, ["features"], ["output"])
        )
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["input", "kernel"], ["map"], pads=[1, 1, 1, 1]),
                helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["flat"]),
                helper.make_node("MatMul", ["flat", "widen"], ["features"]),
                logits,
            ],
            "network",
            [helper.make_tensor_value_info("input", 1, [batch, channels, side, side])],
            [
                helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
                for output in ("output", *more_outputs)
            ],
            [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
        edit(model)
        (tmp_path / name).write_bytes(model.SerializeToString())
        return tmp_path / name

    return write


def faces(count: int) -> tuple[np.ndarray, list[Face]]:
    frames = np.random.default_rng(1).integers(0, 255, (count, 60, 70, 3), dtype=np.uint8)
    found = [
        Face((4, 4, 44, 44), 0.9, (template(40) + 4 + k / 7).astype(np.float32))
        for k in range(count)
    ]
    return frames, found


def expected_features(path: Path, pixels: np.ndarray) -> np.ndarray:
    """By hand: for zero padding, the mean of a convolution is a product with means of shifts."""
    initial = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)))
    side = pixels.shape[-1]
    shifts = np.stack(
        [padded[:, :, i : i + side, j : j + side].mean((2, 3)) for i in range(3) for j in range(3)],
        axis=-1,
    )  # (N, 3, 9)
    pooled = np.einsum("ncs,dcs->nd", shifts, initial["kernel"].reshape(4, 3, 9))
    return pooled @ initial["widen"]


@pytest.mark.parametrize(("batch", "side"), [("N", SIDE), (1, SIDE), ("N", "H")])
def test_the_embedding_is_what_the_classifier_sees(network: Network, batch, side) -> None:
    path = network(batch=batch, side=side)
    embedder = EfficientNetB2Affectnet(str(path), margin=0.1)
    frames, found = faces(20)
    used = 260 if side == "H" else side
    assert embedder.parameters == {"margin": 0.1, "side": used}
    crops = align(frames, found, used, 0.1) / 255
    pixels = (crops - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    embedded = embedder.embed_faces(frames, found)
    assert embedded.shape == (20, 1408)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(
        embedded, expected_features(path, pixels.transpose(0, 3, 1, 2)), atol=1e-3
    )
    np.testing.assert_allclose(embedder.embed_faces(frames[7:8], found[7:8])[0], embedded[7], 1e-4)


def test_it_is_built_and_rebuilt_by_name(network: Network) -> None:
    path = network()
    assert NAME in extractor_names("visual")
    features = build_extractor("visual", f"{NAME}:{path}", frame_rate_hz=5)
    spec = features.spec
    assert (spec.dim, spec.extractor, spec.source) == (1408, NAME, str(path))
    assert spec.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert rebuild_extractor(spec).spec.key == spec.key
    features.load()
    copy = pickle.loads(pickle.dumps(features))
    assert len(pickle.dumps(features)) < 20_000, "weights are read again, not sent"
    frames, found = faces(2)
    np.testing.assert_array_equal(
        copy.embedder.embed_faces(frames, found), features.embedder.embed_faces(frames, found)
    )
    network(batch=1)  # another file in its place
    with pytest.raises(InputError, match="would not be the same"):
        rebuild_extractor(spec)


def test_the_published_file_is_downloaded_once_and_checked(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The download itself is torch's; here a file stands for the address."""
    from torch import hub

    path = network()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    fetched = []

    def fetch(address: str, target: str, hash_prefix: str) -> None:
        fetched.append(address)
        assert hash_prefix == efficientnet.PUBLISHED_SHA256
        Path(target).write_bytes(path.read_bytes())

    monkeypatch.setattr(hub, "download_url_to_file", fetch)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"offline mode is on; .* by its local path"):
        EfficientNetB2Affectnet()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(InputError, match="expected the SHA-256 180a9d48"):
        EfficientNetB2Affectnet()  # what came is not what is pinned
    monkeypatch.setattr(efficientnet, "PUBLISHED_SHA256", digest)
    first, second = (build_extractor("visual", NAME) for _ in range(2))
    assert fetched == [efficientnet.PUBLISHED_URL] * 2
    assert first.spec.weights_sha256 == digest
    assert first.spec.source is None
    assert rebuild_extractor(second.spec).spec.key == first.spec.key


def test_a_wrong_hash_or_no_file_is_told(network: Network, tmp_path: Path) -> None:
    path = network()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert EfficientNetB2Affectnet(str(path), digest.upper()).weights_sha256 == digest
    with pytest.raises(InputError, match=f"expected the SHA-256 {'0' * 64}, got {digest}"):
        EfficientNetB2Affectnet(str(path), "0" * 64)
    with pytest.raises(InputError, match="there is none"):
        EfficientNetB2Affectnet(str(tmp_path / "missing.onnx"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 1280}, "classifier of 1408 features"),
        ({"last": "Relu"}, "got Relu"),
        ({"channels": 1}, r"one input \(N, 3, H, W\)"),
        ({"batch": 4}, "any number or one at a time"),
        ({"more_outputs": ("features",)}, "one output"),
    ],
)
def test_another_interface_is_refused(network: Network, settings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EfficientNetB2Affectnet(str(network(**settings)))


def outside(tensor: Any, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def constant_in_a_branch(model: Any) -> None:
    """Weights in another file, hidden in a graph within the graph."""
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "hidden")
    outside(tensor, "../../secret")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["value"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [2])],
    )
    model.graph.node.insert(
        0,
        helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch),
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda model: outside(model.graph.initializer[0], "../../secret"),
        lambda model: outside(model.graph.initializer[0], "beside.bin"),
        constant_in_a_branch,
    ],
)
def test_weights_in_other_files_are_refused(network: Network, edit) -> None:
    with pytest.raises(StoreError, match="expected all weights inside the file, got"):
        EfficientNetB2Affectnet(str(network(edit=edit)))


@pytest.mark.parametrize("content", [b"", b"no network at all", b"\x08\x07"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"broken\.onnx: damaged, or no ONNX file"):
        EfficientNetB2Affectnet(str(path))


def test_an_unknown_operation_is_told_by_name(network: Network) -> None:
    def edit(model: Any) -> None:
        model.graph.node[0].op_type = "Convolute"

    with pytest.raises(StoreError, match=r"onnxruntime cannot run it .*Convolute"):
        EfficientNetB2Affectnet(str(network(edit=edit))).load()


def test_without_the_extra_its_name_is_told(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = network()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"pip install 'vavl\[onnx\]'"):
        EfficientNetB2Affectnet(str(path))
