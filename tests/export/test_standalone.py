"""Standalone graphs answer as vavl does, from samples and pictures, and say what they take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from voices import babble

import vavl
from vavl import cli, export
from vavl.errors import ExportError, InputError, StoreError
from vavl.export import export_model, standalone
from vavl.export.senses import Ear, build_senses
from vavl.export.standalone import (
    StandaloneGraph,
    check_standalone,
    drawn_faces,
    example_media,
)
from vavl.features.compact_face import LUMA
from vavl.features.registry import build_extractor
from vavl.features.whisper import WhisperBase, read_encoder
from vavl.inference.windows import Window, cut_clip
from vavl.models.pretrained import write_features
from vavl.types import Modality, TimedPrediction

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "onnx_only.py"
CLOSE = 1e-4

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def compact() -> vavl.Recognizer:
    return vavl.load()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model, exported once: most of it is tracing."""
    out = tmp_path_factory.mktemp("standalone") / "out"
    assert cli.run(["export", "compact", "--standalone", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        *("acoustic.onnx", "visual.onnx", "audiovisual.onnx", "export.json", "README.md"),
    }
    return out


def session(graphs: Path, use: Modality) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graphs / f"{use}.onnx")


def faces(count: int, seed: int = 0) -> np.ndarray:
    return drawn_faces(np.random.default_rng(seed), count)


def answer_of_vavl(
    recognizer: vavl.Recognizer, sound: np.ndarray | None, shown: np.ndarray | None
) -> TimedPrediction:
    """What vavl says of speech alone and of crops, a black one being none."""
    features = {}
    if sound is not None:
        extract = recognizer.reader.acoustic_extractor.extract
        features[Modality.ACOUSTIC] = extract(sound, is_speech=True)
    if shown is not None:
        embeddings = recognizer.reader.visual_extractor.embedder.embed(
            (shown @ LUMA).round().astype(np.uint8)
        )
        embeddings[~shown.any(axis=(1, 2, 3))] = np.nan
        features[Modality.VISUAL] = embeddings
    empty = Window(0.0, 1.0, np.zeros(0, np.float32), ())
    return recognizer.predict_window(empty, features=features)


def assert_same(found: np.ndarray, expected: TimedPrediction, use: Modality) -> None:
    assert expected.modality is use
    np.testing.assert_allclose(found, [[*expected.probabilities.values()]], atol=CLOSE)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.217, 10.0, 20.0])
def test_a_voice_is_heard_as_by_vavl(
    graphs: Path, compact: vavl.Recognizer, seconds: float
) -> None:
    sound = babble(seconds, seed=round(10 * seconds)) * np.float32(0.05) + np.float32(0.01)
    run = session(graphs, Modality.ACOUSTIC).run
    probabilities, features = run(["probabilities", "acoustic_features"], {"waveform": sound[None]})
    assert_same(probabilities, answer_of_vavl(compact, sound, None), Modality.ACOUSTIC)
    expected = compact.reader.acoustic_extractor.extract(sound, is_speech=True)
    assert features.shape == expected.shape
    np.testing.assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_face_is_seen_as_by_vavl(graphs: Path, compact: vavl.Recognizer, count: int) -> None:
    shown = faces(count, seed=count)
    if count > 1:
        shown[1] = 0  # nobody there
        shown[2] = np.random.default_rng(0).integers(0, 255, (48, 48, 1))  # nothing to be read
    run = session(graphs, Modality.VISUAL).run
    probabilities, features = run(["probabilities", "visual_features"], {"faces": shown})
    assert_same(probabilities, answer_of_vavl(compact, None, shown), Modality.VISUAL)
    assert np.isnan(features).all(axis=1).tolist() == [1 <= k <= 2 for k in range(count)]
    expected = compact.reader.visual_extractor.embedder.embed(
        (shown @ LUMA).round().astype(np.uint8)
    )
    seen = ~np.isnan(features[:, 0])
    np.testing.assert_allclose(features[seen], expected[seen], atol=5e-3)


@pytest.mark.parametrize(("seconds", "count"), [(0.7, 1), (4.0, 50)])
def test_both_together_are_answered_as_by_vavl(
    graphs: Path, compact: vavl.Recognizer, seconds: float, count: int
) -> None:
    sound, shown = babble(seconds), faces(count)
    [probabilities] = session(graphs, Modality.AUDIOVISUAL).run(
        ["probabilities"], {"waveform": sound[None], "faces": shown}
    )
    assert_same(probabilities, answer_of_vavl(compact, sound, shown), Modality.AUDIOVISUAL)


def test_where_nobody_is_seen_there_is_no_answer(graphs: Path) -> None:
    nobody = np.zeros((4, 48, 48, 3), np.uint8)
    [probabilities] = session(graphs, Modality.VISUAL).run(["probabilities"], {"faces": nobody})
    assert np.isnan(probabilities).all()
    media = {"faces": nobody, "waveform": babble(1.0)[None]}
    [probabilities] = session(graphs, Modality.AUDIOVISUAL).run(["probabilities"], media)
    assert np.isnan(probabilities).all()


def test_more_than_thirty_seconds_are_an_error(graphs: Path) -> None:
    with pytest.raises(Exception, match=r"BroadcastIterator|broadcast"):
        session(graphs, Modality.ACOUSTIC).run(None, {"waveform": babble(30.1)[None]})


@pytest.mark.parametrize("use", list(Modality))
def test_the_metadata_say_all_one_must_know(
    graphs: Path, compact: vavl.Recognizer, use: Modality
) -> None:
    found = session(graphs, use)
    about = found.get_modelmeta().custom_metadata_map
    assert about["model"] == "compact"
    assert about["use"] == use
    assert about["vavl_version"] == vavl.__version__
    assert json.loads(about["categories"]) == list(compact.categories)
    assert json.loads(about["attributes"]) == []
    assert float(about["temperature"]) == compact.calibration.temperatures.get(use, 1.0)
    assert float(about["unsure_below"]) == 0.4
    assert "voice activity" in about["not_inside"]
    assert "face detection" in about["not_inside"]
    licences = json.loads(about["licences"])
    assert "CC BY-NC-SA 4.0" in licences["compact"]
    shapes = {value.name: value.shape for value in found.get_inputs()}
    if use is not Modality.VISUAL:
        waveform = json.loads(about["waveform"])
        assert waveform["shape"] == shapes.pop("waveform") == [1, "samples"]
        assert waveform["sampling_rate_hz"] == 16_000
        assert (waveform["shortest_s"], waveform["longest_s"], waveform["part_s"]) == (0.5, 30, 10)
        assert waveform["speech_only"] is True
        assert waveform["normalization"] == "utterance"
        assert "Copyright (c) 2022 OpenAI" in licences["whisper-base"]
    if use is not Modality.ACOUSTIC:
        crops = json.loads(about["faces"])
        assert crops["shape"] == shapes.pop("faces") == ["steps", 48, 48, 3]
        assert crops["frame_rate_hz"] == 12.5
        assert len(crops["landmarks"]) == len(crops["landmarks_px"]) == 5
        assert crops["landmarks_px"][2] == [24.0, 28.3]
        assert "FER2013" in licences["compact-face"]
    assert not shapes
    content = (graphs / f"{use}.onnx").read_bytes()
    assert str(Path(vavl.__file__).parent).encode() not in content


def test_eight_bits_are_stored_as_eight_bits(graphs: Path) -> None:
    graph = onnx.load(graphs / "acoustic.onnx").graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    encoder = read_encoder()
    matrices = {n: x for n, x in encoder.named_parameters() if x.ndim == 2}
    sizes = sum(x.size for x in stored.values() if x.dtype == np.int8)
    assert sizes == sum(x.numel() for x in matrices.values())
    [name] = [n.removesuffix(".stored") for n in stored if "blocks.3.fc1.weight.stored" in n]
    widened = stored[f"{name}.stored"].astype(np.float32) * stored[f"{name}.scale"]
    np.testing.assert_allclose(widened, matrices["blocks.3.fc1.weight"], rtol=1e-6)
    assert (graphs / "acoustic.onnx").stat().st_size < 17e6
    assert (graphs / "audiovisual.onnx").stat().st_size < 25e6


# --- without vavl ----------------------------------------------------------------------------


def run_example(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the example where neither vavl nor torch nor anything like it can be imported."""
    forbidden = ("vavl", "torch", "transformers", "scipy", "onnx", "av", "safetensors")
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({forbidden!r}))\n"
        f"sys.argv[:] = {[str(EXAMPLE), *arguments]!r}\n"
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_example_gives_the_answer_of_vavl(
    graphs: Path, compact: vavl.Recognizer, write_wav
) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    # What vavl takes for speech in a sound with silence around it, as another program would cut it.
    sound = np.pad(babble(3.0), 8000)
    clip = compact.reader.open(audio=sound)
    cutter = compact.reader.part_cutter(clip)
    [(_, window)] = cut_clip(clip, [cutter])
    done = run_example(str(graphs / "acoustic.onnx"), str(write_wav(window.speech)))
    assert done.returncode == 0, done.stderr
    printed = {name: float(share) for name, share in map(str.split, done.stdout.splitlines())}
    assert printed == pytest.approx(compact.predict(audio=sound).probabilities, abs=1e-3)
    assert max(printed, key=printed.get) == next(iter(printed))


def test_the_example_says_what_it_cannot_take(graphs: Path, write_wav) -> None:
    for sound, rate_hz, message in (
        (babble(1.0), 8_000, "expected 16 bits and 16 kHz"),
        (babble(0.3), 16_000, "at least 0.5 s"),
    ):
        path = write_wav(sound, sampling_rate_hz=rate_hz)
        done = run_example(str(graphs / "acoustic.onnx"), str(path))
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


# --- models of users -------------------------------------------------------------------------


def recognizer_of(
    acoustic: dict[str, object], visual: dict[str, object], **config: object
) -> vavl.Recognizer:
    """An untrained model of vavl on the extractors of the package."""
    specs = {
        Modality.ACOUSTIC: build_extractor("acoustic", "whisper-base", layer=1, **acoustic).spec,
        Modality.VISUAL: build_extractor("visual", "compact-face", **visual).spec,
    }
    torch.manual_seed(0)
    sizes = {"width": 8, "heads": 2, "kernel": 3, "shared_blocks": 1, "head_widths": (4,)}
    settings = vavl.VAVLConfig.preset(
        "small", acoustic_dim=512, visual_dim=256, **{**sizes, **config}
    )
    return vavl.Recognizer(vavl.VAVL(settings), specs, {Modality.ACOUSTIC: 2.0})


@pytest.mark.parametrize(
    ("acoustic", "visual", "config"),
    [
        (
            {"normalization": "none", "max_duration_s": 1.0},
            {"mirrored": False},
            {"categories": ("a", "b", "c"), "attributes": ("valence",)},
        ),
        (
            {"normalization": "corpus", "corpus_mean": 0.01, "corpus_std": 0.05},
            {"readable_only": True},
            {"categories": (), "attributes": ("arousal",), "predictions": ("acoustic", "visual")},
        ),
    ],
)
def test_models_of_users_are_answered_alike(acoustic: dict, visual: dict, config: dict) -> None:
    """Not traced: that takes long, and is the same for all."""
    recognizer = recognizer_of(acoustic, visual, **config)
    senses = build_senses(recognizer.reader, (Modality.ACOUSTIC, Modality.VISUAL))
    for use in Modality:
        network = StandaloneGraph(recognizer, senses, (use,)).eval()
        assert check_standalone(recognizer, use, Untraced(network, use, senses)) < CLOSE


class Untraced:
    """The network of a graph, called as onnxruntime calls a graph."""

    def __init__(self, network: StandaloneGraph, use: Modality, senses: dict) -> None:
        self.network, self.use, self.senses = network, use, senses

    def run(self, names: list[str], media: dict[str, np.ndarray]) -> list[np.ndarray]:
        given = [
            torch.from_numpy(media.get(s.name, s.example.numpy())) for s in self.senses.values()
        ]
        with torch.inference_mode():
            found = dict(zip(self.network.names(), self.network(*given), strict=True))
        return [found[f"{self.use}.{name}"].numpy() for name in names]


def test_a_constant_sound_is_no_division_by_zero() -> None:
    ear, waveform = Ear(WhisperBase()), torch.full((1, 8000), 0.25)
    with torch.inference_mode():
        features, mask = ear(waveform)
    assert features.isfinite().all()
    assert mask.all()


def test_the_check_sees_what_differs(compact: vavl.Recognizer) -> None:
    class Graph:
        def run(self, names: list[str], media: dict[str, np.ndarray]) -> list[np.ndarray]:
            expected = answer_of_vavl(compact, media["waveform"][0], None)
            return [np.array([[*expected.probabilities.values()]]) + self.error]

    graph = Graph()
    graph.error = 1e-5
    assert check_standalone(compact, Modality.ACOUSTIC, graph) == pytest.approx(1e-5, rel=0.2)
    for graph.error in (2e-3, np.nan):
        with pytest.raises(ExportError, match=r"acoustic: for 0\.5 s of sound .* nothing was"):
            check_standalone(compact, Modality.ACOUSTIC, graph)


def test_what_it_is_checked_with_says_something(compact: vavl.Recognizer) -> None:
    media, features = example_media(compact, Modality.AUDIOVISUAL, None, 7)
    assert media["waveform"].shape == (1, 8000)
    unseen = np.isnan(features[Modality.VISUAL]).all(axis=1)
    assert unseen.tolist() == [False, True, *[False] * 5]
    for _, pictures in standalone._CHECKED:
        _, features = example_media(compact, Modality.VISUAL, None, pictures)
        assert np.isfinite(features[Modality.VISUAL][0]).all()


# --- what has no graph -----------------------------------------------------------------------


def saved(folder: Path, acoustic: str, **parameters: object) -> Path:
    extractor = build_extractor("acoustic", acoustic, **parameters)
    config = vavl.VAVLConfig.preset(
        "small",
        acoustic_dim=extractor.spec.dim,
        visual_dim=4,
        categories=("a", "b"),
        predictions=("acoustic",),
        width=8,
        heads=2,
    )
    vavl.VAVL(config).save_pretrained(folder)
    write_features(folder, {Modality.ACOUSTIC: extractor.spec})
    return folder


def test_an_extractor_without_a_graph_is_named(tmp_path: Path, graphs: Path) -> None:
    model = saved(tmp_path / "logmel", "logmel")
    with pytest.raises(InputError, match=r"acoustic: expected features of whisper-base .* logmel"):
        export_model(model, tmp_path / "a", standalone=True)
    model = saved(tmp_path / "faster", "whisper-base", layer=1, speed=1.1)
    with pytest.raises(InputError, match=r"expected whisper-base with .*'speed': 1\.1"):
        export_model(model, tmp_path / "a", standalone=True)
    (model / "features.json").unlink()
    with pytest.raises(InputError, match="does not say of which"):
        export_model(model, tmp_path / "a", standalone=True)
    for contradiction in ({"format": "torch"}, {"quantize": "int8"}):
        with pytest.raises(InputError, match="standalone: expected the format onnx without"):
            export_model(model, tmp_path / "a", standalone=True, **contradiction)
    assert not (tmp_path / "a").exists()
    with pytest.raises(StoreError, match="standalone ones, which are for programs without vavl"):
        vavl.load(graphs)


def test_the_card_of_the_model_travels(graphs: Path) -> None:
    assert (graphs / "README.md").read_text("utf-8").startswith("# Model card: compact")
    content = json.loads((graphs / "export.json").read_text("utf-8"))
    assert content["standalone"] is True
    assert content["notice"] == export.COMPACT_NOTICE
    assert content["largest_difference"] < CLOSE
