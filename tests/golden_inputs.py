"""What the sections of the golden record work on: made when it is first asked for."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
GIVEN = tomllib.loads((HERE / "golden.toml").read_text("utf-8"))
SHARED = Path(os.environ.get("VAVL_SHARED", HERE.parents[1] / "shared"))
sys.path.insert(0, str(HERE.parent / "research"))


def vavl(*arguments: object, expect: int = 0) -> str:
    """Runs a command in this process; returns what it prints."""
    with suppress(ImportError):  # earlier revisions have these extractors in the package
        import controls  # noqa: F401 - makes logmel-random and its like known
    from vavl.cli import main

    out, errors = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code or 0
    if code != expect:
        raise RuntimeError(f"vavl {arguments}: expected {expect}, got {code}: {errors.getvalue()}")
    return out.getvalue()


class _Interruption:
    checkpoints = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.checkpoints and event == "os.rename" and "checkpoint.pt" in str(arguments[1]):
            self.checkpoints -= 1
            if not self.checkpoints:
                raise KeyboardInterrupt


@cache
def _interruption() -> _Interruption:
    hook = _Interruption()
    sys.addaudithook(hook)  # stays for as long as the process does
    return hook


@contextmanager
def interrupted(checkpoints: int) -> Iterator[None]:
    """Ctrl-C as the n-th checkpoint of a training is about to be put in its place."""
    _interruption().checkpoints = checkpoints
    yield
    _interruption().checkpoints = 0


@cache
def corpus() -> Path:
    """Sound and action units of six speakers."""
    size = ("--speakers", 6, "--clips-per-speaker", 12, "--no-video")
    vavl("prepare", "synthetic", "--out", "corpus", *size)
    return Path("corpus/manifest.parquet")


@cache
def films() -> list[Path]:
    """Two speakers, two emotions: four videos with sound."""
    vavl("prepare", "synthetic", "--out", "films", "--speakers", 2, "--clips-per-speaker", 2)
    return sorted(Path("films/video").iterdir())


@cache
def miniatures() -> tuple[str, ...]:
    """Corpora of a few clips, in the layout in which they are distributed."""
    import miniatures as layouts

    names = ("crema_d", "msp_improv", "cmu_mosei")
    for name in names:
        getattr(layouts, name)(Path(name))
        vavl("prepare", name, name, "--out", f"prepared-{name}")
    return names


@cache
def stores() -> None:
    """Features of the corpora that are trained on."""
    sound, both = ("--acoustic", "logmel"), ("--acoustic", "arrays", "--visual", "arrays")
    vavl("extract", corpus(), "--out", "stores", *sound, "--visual", "arrays")
    vavl("extract", corpus(), "--out", "faster", *sound, "--speed", 1.1)
    miniatures()
    vavl("extract", "prepared-cmu_mosei/manifest.parquet", "--out", "mosei", *both)


def training_command(name: str) -> tuple[str, ...]:
    stores()
    conformer = GIVEN["conformers"].get(name)
    options = GIVEN["others"][name] if conformer is None else f"{GIVEN['sizes']} {conformer}"
    folds = () if name == "sentiment" else ("--folds", "fold-0")
    return ("train", "experiment.toml", *folds, "--set", *options.split(), f"name={name}")


@cache
def trained(name: str) -> Path:
    """The run of a training in ``golden.toml``."""
    vavl(*training_command(name))
    return Path("runs") / name


@cache
def clips() -> Path:
    """One clip as a video with sound, its sound alone, its face alone, and its frames."""
    import av

    folder, film = Path("clips"), films()[0]
    (folder / "frames").mkdir(parents=True)
    shutil.copy(film, folder / "both.mp4")
    shutil.copy(f"films/audio/{film.stem}.wav", folder / "sound.wav")
    with av.open(str(film)) as source, av.open(str(folder / "face.mp4"), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    with av.open(str(film)) as source:
        for number, frame in enumerate(source.decode(video=0)):
            frame.to_image().save(folder / "frames" / f"{number:04d}.png")
    return folder


@cache
def encoders() -> dict[str, Path]:
    """Random models of transformers, and a graph with the interface of the paper's face model."""
    import onnx
    import torch
    import transformers
    from onnx import helper, numpy_helper

    transformers.utils.logging.disable_progress_bar()
    made = {}
    for name, sizes in GIVEN["encoders"].items():
        torch.manual_seed(0)
        cls = getattr(transformers, name)
        made[name] = Path("encoders") / name
        cls(cls.config_class(**sizes)).save_pretrained(made[name])
    bands = GIVEN["encoders"]["WhisperModel"]["num_mel_bins"]
    transformers.WhisperFeatureExtractor(bands).save_pretrained(made["WhisperModel"])

    random = np.random.default_rng(0)
    shapes = {"kernel": (4, 3, 3, 3), "widen": (4, 1408), "w": (8, 1408), "b": (8,)}
    weights = {n: random.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "widen"], ["features"]),
        helper.make_node("Gemm", ["features", "w", "b"], ["output"], transB=1),
    ]
    pictures = helper.make_tensor_value_info("input", 1, ["batch", 3, 12, 12])
    logits = helper.make_tensor_value_info("output", 1, None)
    initial = [numpy_helper.from_array(array, n) for n, array in weights.items()]
    graph = helper.make_graph(nodes, "network", [pictures], [logits], initial)
    opset = helper.make_opsetid("", 13)
    made["graph"] = Path("encoders/graph.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=7), made["graph"])
    return made


CACHED = (corpus, films, miniatures, stores, trained, clips, encoders)
