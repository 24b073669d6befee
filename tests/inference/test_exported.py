"""Exported graphs predict what their model predicts, or are not written."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from small_models import tiny
from tiny import with_statistics

import vavl
from vavl import cli, export
from vavl.config.experiment import MODEL_CONFIGS
from vavl.errors import ExportError, InputError, StoreError
from vavl.export import export_model
from vavl.export.graphs import (
    CHECKED_SHAPES,
    Format,
    UseGraph,
    check_graph,
    example_inputs,
    quantize_graph,
)
from vavl.inference.exported import NORMALISATION_FILE, ExportedModel, uses
from vavl.inference.loading import COMPACT_NOTICE
from vavl.models.pretrained import Calibration, write_calibration, write_features
from vavl.models.registry import build_model
from vavl.types import Modality

Film = Callable[..., Path]
SPEECH = np.sin(np.arange(48_000) ** 1.1 / 40).astype(np.float32) * 0.2


def saved(folder: Path, recognizer: vavl.Recognizer) -> Path:
    recognizer.model.save_pretrained(folder)
    write_features(folder, recognizer.features)
    temperatures = {Modality.ACOUSTIC: 2.0, Modality.AUDIOVISUAL: 0.7}
    write_calibration(folder, Calibration(temperatures, unsure_below=0.9))
    return folder


@pytest.fixture(scope="module")
def model_folder(recognizer: vavl.Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"), recognizer)


@pytest.fixture(scope="module")
def exported(model_folder: Path) -> Path:
    out = model_folder.parent / "exported"
    assert cli.run(["export", str(model_folder), "--out", str(out)]) == 0
    assert json.loads((out / "export.json").read_text())["largest_difference"] < 1e-4
    assert {path.name for path in out.iterdir()} == {
        *("acoustic.onnx", "visual.onnx", "audiovisual.onnx"),
        *("config.json", "features.json", "calibration.json", "export.json"),
        "normalisation.safetensors",
    }
    return out


def test_the_same_recognition_from_media(
    model_folder: Path, exported: Path, recognizer: vavl.Recognizer, film: Film
) -> None:
    """Labels, windows, attributes, temperatures, and whichever modality is there."""
    ours, theirs = vavl.load(model_folder), vavl.load(exported)
    for made in (ours, theirs):
        made.reader.visual_extractor = recognizer.reader.visual_extractor
    assert theirs.categories == ours.categories
    assert theirs.calibration == ours.calibration
    assert theirs.calibration.unsure_below == 0.9
    clips = {
        "film": {"path": film(seconds=3.0)},
        "sound": {"audio": SPEECH},
        "picture": {"path": film("silent.mp4", audio=None)},
        "one step": {"acoustic": np.ones((1, 80)), "visual": np.ones((1, 4))},
    }
    labels = set()
    for arguments in clips.values():
        timeline = "acoustic" not in arguments
        a, b = (made.predict(**arguments, timeline=timeline) for made in (ours, theirs))
        assert b.modality is a.modality
        assert b.label == a.label
        labels.add(b.label)
        assert b.probabilities == pytest.approx(a.probabilities, abs=1e-4)
        assert b.attributes == pytest.approx(a.attributes, abs=1e-4)
        assert len(b.timeline) == len(a.timeline)
        for ours_window, theirs_window in zip(a.timeline, b.timeline, strict=True):
            assert theirs_window.modality is ours_window.modality
            assert theirs_window.probabilities == pytest.approx(ours_window.probabilities, abs=1e-4)
    assert vavl.UNSURE in labels
    assert vavl.load(exported, unsure_below=0).predict(audio=SPEECH).label in ours.categories


def test_a_known_speaker_is_predicted_as_by_the_model(model_folder: Path, exported: Path) -> None:
    ours, theirs = vavl.load(model_folder), vavl.load(exported)
    for modality in ours.model.config.inputs:
        statistics = [made.model.normalisation(modality).statistics() for made in (ours, theirs)]
        torch.testing.assert_close(*statistics)
    clips = [{"acoustic": np.full((4, 80), k), "visual": np.full((1, 4), -k)} for k in (1.0, 5.0)]
    theirs.adapt(clips, speaker="ann")
    assert theirs.speakers["ann"].key == ours.adapt(clips, speaker="ann").key
    a, b = (made.predict(**clips[0], speaker="ann") for made in (ours, theirs))
    assert b.probabilities == pytest.approx(a.probabilities, abs=1e-4)
    assert b.probabilities != pytest.approx(theirs.predict(**clips[0]).probabilities, abs=1e-3)


def test_batches_may_mix_what_is_there(recognizer: vavl.Recognizer, exported: Path) -> None:
    model = ExportedModel.from_folder(exported, threads=1)
    inputs = {
        "acoustic": torch.randn(4, 30, 80),
        "acoustic_lengths": torch.tensor([30, 0, 7, 1]),
        "visual": torch.randn(4, 12, 4),
        "visual_lengths": torch.tensor([12, 3, 0, 1]),
    }
    expected, found = recognizer.model(**inputs), model(**inputs)
    assert found.modality == expected.modality
    assert len(set(found.modality)) == 3
    torch.testing.assert_close(found.prediction, expected.prediction, atol=1e-4, rtol=1e-4)
    # In a batch or alone, a clip is the same.
    alone = model(acoustic=inputs["acoustic"][2:3, :7])
    torch.testing.assert_close(alone.prediction[0], found.prediction[2], atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=r"acoustic: expected \(B, T, 80\)"):
        model(acoustic=torch.randn(1, 3, 81))
    with pytest.raises(InputError, match="neither sound nor face"):
        model(acoustic=torch.randn(1, 3, 80), acoustic_lengths=torch.tensor([0]))


def test_a_graph_has_named_inputs_and_dynamic_axes(exported: Path) -> None:
    graph = onnx.load(exported / "audiovisual.onnx").graph
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert axes == {
        "acoustic": ["batch", "acoustic_steps", 80],
        "acoustic_mask": ["batch", "acoustic_steps"],
        "visual": ["batch", "visual_steps", 4],
        "visual_mask": ["batch", "visual_steps"],
        "prediction": ["batch", 4],
    }
    assert (
        str(Path(vavl.__file__).parent).encode() not in (exported / "audiovisual.onnx").read_bytes()
    )


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Modality], None]:
    """Exports one use alone: a graph takes seconds, most of them in torch."""
    return lambda use: monkeypatch.setattr(export, "uses", lambda _: (use,))


def test_a_model_without_fusion_averages_and_may_know_the_statistics_of_its_input(
    tmp_path: Path, only: Callable[[Modality], None]
) -> None:
    config = vavl.VAVLConfig.preset(
        "small",
        acoustic_dim=3,
        visual_dim=5,
        categories=("a", "b"),
        attributes=("valence",),
        predictions=["acoustic", "visual"],
        width=8,
        heads=2,
        kernel=3,
        shared_blocks=0,
        head_widths=(4,),
        input_statistics=True,
    )
    model = vavl.VAVL(config)
    with_statistics(model)
    model.save_pretrained(tmp_path / "model")
    assert [str(use) for use in uses(config)] == ["acoustic", "visual", "audiovisual"]
    only(Modality.AUDIOVISUAL)
    report = export_model(tmp_path / "model", tmp_path / "out")
    assert report.largest_difference < 1e-4


def test_a_graph_that_differs_is_not_left_behind(
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    only: Callable[[Modality], None],
) -> None:
    true_forward = UseGraph.forward
    monkeypatch.setattr(UseGraph, "forward", lambda *inputs: true_forward(*inputs) + 1e-3)
    only(Modality.VISUAL)
    with pytest.raises(ExportError, match=r"visual: .* differs from the model by 0\.001"):
        export_model(model_folder, tmp_path / "out", format="torch")
    assert not list(tmp_path.iterdir())


def test_the_check_sees_padding_that_leaks(recognizer: vavl.Recognizer) -> None:
    model = recognizer.model
    assert isinstance(model, vavl.VAVL)

    class Graph:
        def __init__(self, leak: bool) -> None:
            self.leak = leak

        def run(self, names: object, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            x, mask = (torch.from_numpy(value) for value in inputs.values())
            mask = torch.ones_like(mask) if self.leak else mask
            with torch.inference_mode():
                return [model(acoustic=x.nan_to_num(), acoustic_mask=mask).prediction.numpy()]

    assert check_graph(model, Modality.ACOUSTIC, Graph(leak=False)) < 1e-4
    with pytest.raises(ExportError):
        check_graph(model, Modality.ACOUSTIC, Graph(leak=True))
    masks = [
        example_inputs(model, [Modality.ACOUSTIC], shape)["acoustic_mask"]
        for shape in CHECKED_SHAPES
    ]
    assert any((~mask[:, :-1] & mask[:, 1:]).any() for mask in masks)  # gaps, not padding alone
    assert (1, 1) in {tuple(mask.shape) for mask in masks}


def test_programs_of_torch_export(
    model_folder: Path, tmp_path: Path, only: Callable[[Modality], None]
) -> None:
    out = tmp_path / "programs"
    only(Modality.VISUAL)
    assert export_model(model_folder, out, format="torch").largest_difference < 1e-4
    program = torch.export.load(out / "visual.pt2").module(check_guards=False)
    model = vavl.VAVL.from_pretrained(model_folder)
    for clips, steps in ((1, 1), (3, 17)):
        x, mask = torch.randn(clips, steps, 4), torch.ones(clips, steps, dtype=torch.bool)
        torch.testing.assert_close(program(x, mask), model(visual=x).prediction)
    with pytest.raises(StoreError, match="may run code"):
        vavl.load(out)


def test_eight_bits_are_close(
    model_folder: Path, tmp_path: Path, only: Callable[[Modality], None]
) -> None:
    only(Modality.VISUAL)
    report = export_model(model_folder, tmp_path / "out", quantize="int8")
    assert 0 < report.largest_difference < 0.1
    assert json.loads((report.folder / "export.json").read_text())["quantize"] == "int8"


def test_all_weights_of_products_are_quantised(exported: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(exported / "audiovisual.onnx", tmp_path))
    exact = onnx.load(path)
    quantize_graph(path)
    rounded = onnx.load(path)
    operations = Counter(node.op_type for node in rounded.graph.node)
    # What stays are products of two activations: in attention, three times in each block.
    assert operations["MatMul"] == 3 * 4
    assert operations["MatMulInteger"] > 30
    before, after = (
        sum(t.ByteSize() for t in model.graph.initializer) for model in (exact, rounded)
    )
    assert after < 0.6 * before


def test_the_notice_of_the_weights_travels(
    model_folder: Path,
    exported: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vavl.load(exported)
    assert not caplog.text
    monkeypatch.setattr(export, "model_folder", lambda _: model_folder)
    monkeypatch.setattr(export, "write_graphs", lambda *_: iter(()))
    report = export_model("compact", tmp_path / "out")
    for path in exported.glob("*.onnx"):
        shutil.copy(path, report.folder)
    vavl.load(report.folder)
    assert caplog.messages == [COMPACT_NOTICE]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "visual.onnx").unlink(), r"lacks visual\.onnx"),
        (lambda f: (f / "visual.onnx").write_bytes(b"\x08\x07junk"), r"visual\.onnx: damaged"),
        (lambda f: (f / "export.json").write_text("{}"), r"export\.json: missing, or no file"),
        (
            lambda f: (f / "export.json").write_text('{"schema_version": 99}'),
            "expected schema version 2, got 99",
        ),
        (lambda f: (f / NORMALISATION_FILE).unlink(), r"normalisation\.safetensors: missing"),
        (
            lambda f: save_file({"acoustic.mean": torch.zeros(3)}, f / NORMALISATION_FILE),
            "of another model",
        ),
    ],
)
def test_damaged_folders_are_refused(exported: Path, tmp_path: Path, damage, message: str) -> None:
    folder = shutil.copytree(exported, tmp_path / "copy")
    damage(folder)
    with pytest.raises(StoreError, match=message):
        vavl.load(folder)


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_linear_model_is_exported(tmp_path: Path, format: Format) -> None:
    model = tiny("linear")
    model.save_pretrained(tmp_path / "linear")
    report = export_model(tmp_path / "linear", tmp_path / "out", format=format)
    assert set(report.graph_bytes) == set(Modality)
    assert report.largest_difference < 1e-5


def test_what_makes_no_sense_is_refused_first(
    model_folder: Path, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="format onnx"):
        export_model(model_folder, tmp_path / "a", format="torch", quantize="int8")
    with pytest.raises(InputError, match="exported already"):
        export_model(exported, tmp_path / "a")
    config = MODEL_CONFIGS["mult"].preset(
        "small", acoustic_dim=3, visual_dim=3, categories=("a", "b"), attributes=()
    )
    build_model(config).save_pretrained(tmp_path / "mult")
    with pytest.raises(InputError, match=r"expected vavl, vavl\+ or linear, .* got mult"):
        export_model(tmp_path / "mult", tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="folder that is empty"):
        export_model(model_folder, tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep me"
    with pytest.raises(StoreError):
        export_model(tmp_path / "none", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(InputError, match="device: expected cpu"):
        vavl.load(exported, device="cuda")


def test_without_the_extra_its_name_is_told(
    model_folder: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for action in (
        lambda: export_model(model_folder, tmp_path / "a"),
        lambda: vavl.load(exported),
    ):
        with pytest.raises(InputError, match=r"onnxruntime: .*pip install 'vavl\[onnx\]'"):
            action()


def test_from_the_command_line(
    model_folder: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "clip.visual.npy", np.random.default_rng(0).normal(size=(9, 4)))
    answers = []
    for model in (model_folder, exported):
        arguments = ["predict", str(tmp_path / "clip.visual.npy"), "--format", "json"]
        assert cli.run([*arguments, "--model", str(model)]) == 0
        answers.append(json.loads(capsys.readouterr().out)[0]["probabilities"])
    assert answers[1] == pytest.approx(answers[0], abs=1e-4)
    assert cli.run(["export", str(model_folder), "--out", str(exported)]) == 2
    assert "expected a folder that is empty" in capsys.readouterr().err
