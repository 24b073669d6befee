"""The golden record: what one revision computes, so that a later one can be held against it.

    python tests/golden.py write RECORD.json [SECTION ...]    # run everything, write it down
    python tests/golden.py check RECORD.json [SECTION ...]    # run again, print each difference

It goes through the command line, the public names of ``vavl`` and the files that are left behind,
so that it outlives any change of what lies in between. A record is good for one machine: another
processor or another torch rounds otherwise. Nothing in it tells when, where and by which version
it was made. ``golden.toml`` holds the commands, ``golden_inputs.py`` makes what they work on, and
``golden_notes.py`` says what is kept of their results.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before anything that reads them is imported
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

import numpy as np
from golden_inputs import (
    CACHED,
    GIVEN,
    SHARED,
    clips,
    corpus,
    encoders,
    films,
    interrupted,
    miniatures,
    stores,
    trained,
    training_command,
    vavl,
)
from golden_notes import differences, noted, noted_file, noted_folder, noted_parquet, sha256

SECTIONS: dict[str, Callable[[], Any]] = {}


class Skipped(Exception):
    """A section cannot be run here, for the reason given."""


def section(function: Callable[[], Any]) -> Callable[[], Any]:
    """Part of the record, made in the folder that we work in."""
    SECTIONS[function.__name__.replace("_", "-")] = function
    return function


# The sections ------------------------------------------------------------------------------------


def small_config(preset: str = "small") -> Any:
    from vavl import VAVLConfig

    outputs: dict[str, Any] = {"categories": ("a", "b", "c"), "attributes": ("v",)}
    return VAVLConfig.preset(preset, acoustic_dim=6, visual_dim=4, **outputs)


@section
def names() -> Any:
    """Public names, and the names and shapes of weights; the paper's sizes take no memory."""
    import torch

    import vavl as package

    kept: dict[str, Any] = {
        "all": sorted(package.__all__),
        "modalities": noted([*package.Modality]),
    }
    for preset in ("small", "paper"):
        config = small_config(preset)
        with torch.device("meta"):
            state = package.VAVL(config).state_dict()
        shapes = {name: [str(x.dtype), *x.shape] for name, x in state.items()}
        kept[preset] = {"config": noted(config.model_dump(mode="json")), "state": shapes}
    return kept


@section
def model() -> Any:
    """The network alone: initial weights, outputs, gradients, and the folder it is saved in."""
    import torch

    import vavl as package

    torch.manual_seed(0)
    network = package.VAVL(small_config())
    inputs = {
        "acoustic": torch.randn(4, 50, 6),
        "acoustic_lengths": torch.tensor([50, 0, 17, 1]),
        "visual": torch.randn(4, 9, 4),
        "visual_lengths": torch.tensor([9, 5, 0, 1]),
    }
    kept: dict[str, Any] = {"initial": noted(network.state_dict())}
    for mode in ("train", "eval"):
        torch.manual_seed(1)
        out = network.train(mode == "train")(**inputs)
        fields = ("acoustic", "visual", "audiovisual", "prediction", "modality")
        kept[mode] = {name: noted(getattr(out, name)) for name in fields}
        network.zero_grad()
        out.prediction.sum().backward()
        kept[mode]["gradients"] = {n: noted(p.grad) for n, p in network.named_parameters()}
    network.save_pretrained("saved")
    kept["saved"] = noted_folder("saved")
    kept["read"] = noted(package.VAVL.from_pretrained("saved").eval()(**inputs).prediction)
    return kept


@section
def corpora() -> Any:
    """Synthetic clips, and the tables of each corpus."""
    corpus(), films()
    kept = {"synthetic": noted_folder("films"), "without video": noted_file(corpus())}
    return kept | {name: noted_folder(f"prepared-{name}") for name in miniatures()}


@section
def compact() -> Any:
    """The bundled model on files, folders, arrays and a stream, and with a profile."""
    import av
    from PIL import Image

    import vavl as package

    recognizer = package.load()
    kept: dict[str, Any] = {}
    for name in ("both.mp4", "sound.wav", "face.mp4", "frames"):
        kept[name] = noted(recognizer.predict(clips() / name, timeline=True))
    for form in ("json", "csv"):
        kept[form] = vavl("predict", *films(), clips(), "--format", form).splitlines()
    vavl("predict", "films/video", "--out", "many", "--timeline")
    kept["many"] = noted_folder("many")

    with wave.open(str(clips() / "sound.wav")) as file:
        sound = np.frombuffer(file.readframes(-1), "<i2").astype(np.float32) / 32768
    pictures = sorted((clips() / "frames").iterdir())
    frames = np.stack([np.asarray(Image.open(picture).convert("RGB")) for picture in pictures])
    random = np.random.default_rng(0)
    heard, seen = (random.normal(size=s).astype(np.float32) for s in ((90, 83), (12, 256)))
    seen[3:5] = np.nan
    given: dict[str, dict[str, Any]] = {
        "samples": {"audio": sound},
        "long samples": {"audio": np.tile(sound, 8)},
        "samples of another rate": {"audio": np.tile(sound, 6), "sampling_rate_hz": 44_100},
        "pictures": {"frames": frames, "frame_rate_hz": 30.0},
        "silence, pictures": {"audio": np.zeros(30_000, np.float32), "frames": frames[:30]},
        "features": {"acoustic": heard, "visual": seen},
        "features of the face": {"visual": seen},
    }
    kept |= {name: noted(recognizer.predict(**inputs)) for name, inputs in given.items()}

    recognizer.adapt([given["samples"], films()[1]], speaker="ann")
    kept["adapted"] = noted(recognizer.predict(clips() / "both.mp4", speaker="ann"))
    vavl("enrol", *films(), "--speaker", "ann", "--out", "ann.safetensors")
    kept["profile"] = noted_file(Path("ann.safetensors"))
    known = ("predict", clips() / "both.mp4", "--profile", "ann.safetensors")
    kept["known"] = json.loads(vavl(*known, "--format", "json", "--timeline"))
    live = vavl("stream", films()[1], "--speed", 20, "--format", "json")
    kept["live"] = [noted(json.loads(line)) for line in live.splitlines()]
    vavl(*known, "--overlay", "marked.mp4", "--plot", "plot.png")
    with av.open("marked.mp4") as film:
        kept["overlay"] = [sha256(frame.to_ndarray().tobytes()) for frame in film.decode(video=0)]
    return kept


@section
def features() -> Any:
    """Each extractor that needs no download, and what can be done to the sound before it."""
    made = {**encoders(), "partition": trained("joint") / "fold-0" / "partition.json"}
    corpus(), films()
    kept = {}
    for name, line in GIVEN["extractions"].items():
        vavl("extract", *line.format(**made).split(), "--out", f"features/{name}")
        kept[name] = noted_folder(f"features/{name}")
    # A table of one's own: a part of a file, arrays, and a clip that cannot be read.
    shutil.copy(clips() / "sound.wav", "own/a.wav")
    shutil.copy("broken.wav", "own/broken.wav")
    np.save("own/a.npy", np.arange(40, dtype=np.float32).reshape(8, 5) / 7)
    vavl("prepare", "folder", "own", "--out", "mine", "--attribute-range", 1, 5)
    options = ("extract", "mine/manifest.parquet", "--out")
    vavl(*options, "mine/1", "--acoustic", "logmel", "--visual", "arrays", expect=3)
    vavl(*options, "mine/2", "--acoustic", "arrays")
    return {**kept, "own": noted_folder("mine")}


@section
def training() -> Any:
    """Both schedules, what can be switched on, each baseline: weights, logs, configurations."""
    return {n: noted_folder(trained(n)) for n in (*GIVEN["conformers"], *GIVEN["others"])}


@section
def resuming() -> Any:
    """A training interrupted after its first epoch: what it leaves, and that it ends the same."""
    kept = {}
    for name in ("joint", "alternating", "plus"):
        whole = noted_folder(trained(name))
        command = (*training_command(name), "runs_dir=again")
        with interrupted(checkpoints=2):
            vavl(*command, expect=130)
        left = noted_folder(f"again/{name}/fold-0")
        vavl(*command)
        ended = noted_folder(f"again/{name}")
        for run in (whole, ended):
            del run["config.toml"]["runs_dir"]
        kept[name] = {"left": left, "ends the same": ended == whole}
    return kept


@section
def evaluation() -> Any:
    """Tables of predictions, and scores."""
    kept = {}
    for runs, options in GIVEN["evaluations"].items():
        folders = [trained(name) for name in runs.split()]
        out = f"scores/{runs}"
        vavl("evaluate", *folders, "--replicates", 100, "--out", out, *options.split())
        tables = [path for folder in folders for path in sorted(folder.rglob("*.parquet"))]
        kept[runs] = {"scores": noted_folder(out)}
        kept[runs] |= {path.as_posix(): noted_parquet(path) for path in tables}
    return kept


@section
def study() -> Any:
    """Two models, two folds: tables, verdicts, and what the models are kept by."""
    stores()
    common = (*GIVEN["sizes"].split(), "training.epochs=1")
    vavl("study", "study.toml", "--workers", 0, "--set", *common)
    return noted_folder("studies")


@section
def export() -> Any:
    """Exported models: names in the graphs, and what they answer beside the models themselves."""
    import onnx

    import vavl as package

    random = np.random.default_rng(0)
    sound, face = (random.normal(size=s).astype(np.float32) for s in ((70, 80), (20, 17)))
    clips_of = {"joint": [{"acoustic": sound, "visual": face}, {"visual": face}], "sound": []}
    kept: dict[str, Any] = {}
    for name, options in (("joint", ()), ("sound", ("--quantize", "int8"))):
        out, fold = Path("exported") / name, trained(name) / "fold-0"
        vavl("export", fold, "--out", out, *options)
        kept[name] = {"folder": noted_folder(out)}
        for path in sorted(out.glob("*.onnx")):
            graph = onnx.load(path).graph
            ends = {"in": graph.input, "out": graph.output}
            kept[name][path.name] = {end: [v.name for v in found] for end, found in ends.items()}
        for source in (out, fold):
            recognizer = package.load(source)
            found = [recognizer.predict(**c) for c in ({"acoustic": sound}, *clips_of[name])]
            kept[name][source.parts[0]] = noted(found)
    return kept


@section
def exit_codes() -> Any:
    """Bad input of several kinds."""
    for line, code in GIVEN["exit_codes"].items():
        vavl(*line.split(), expect=code)
    return GIVEN["exit_codes"]


@section
def shared() -> Any:
    """Real people and a real encoder, where the shared research data lie beside the project."""
    import vavl as package

    if not SHARED.is_dir():
        raise Skipped("shared research data not found: VAVL_SHARED names its folder")
    recognizer = package.load()
    videos = [SHARED / "samples" / f"{n}" for n in ("single_face.mp4", "grid_bbaf2n.mpg")]
    videos.append(SHARED / "samples/ravdess_01-01-01-01-01-01-01.mp4")
    kept = {video.name: noted(recognizer.predict(video, timeline=True)) for video in videos}
    Path("real").mkdir()
    sounds = [
        f"data/ravdess/audio16k/{n}.flac" for n in ("03-01-01-01-01-01-01", "03-01-03-01-01-01-02")
    ]
    for path in (*videos, SHARED / "samples/no_face.mp4", *(SHARED / sound for sound in sounds)):
        shutil.copy(path, "real")
    rows = "".join(f"{path.name},ann,happy\n" for path in sorted(Path("real").iterdir()))
    Path("real/labels.csv").write_text(f"file,speaker,category\n{rows}")
    vavl("prepare", "folder", "real", "--out", "really")
    whisper = ("--acoustic", f"hf:{SHARED / 'models/whisper-base-encoder'}", "--layer", 2)
    both = (*whisper, "--layer", 3, "--visual", "compact-face")
    vavl("extract", "really/manifest.parquet", "--out", "whispered", *both, expect=3)
    return {**kept, "extracted": noted_folder("whispered")}


# Writing and checking ----------------------------------------------------------------------------


def measured(chosen: list[str]) -> dict[str, Any]:
    """Runs sections in a temporary folder; what a section raises is part of the record."""
    import torch

    before, threads = Path.cwd(), torch.get_num_threads()
    torch.set_num_threads(1)
    for made in CACHED:
        made.cache_clear()
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in GIVEN["files"].items():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(text.lstrip(), encoding="utf-8")
        try:
            for name in chosen:
                started = time.perf_counter()
                try:
                    record[name] = SECTIONS[name]()
                except Skipped as reason:
                    record[name] = {"skipped": str(reason)}
                except Exception as error:
                    record[name] = {"failed": f"{type(error).__name__}: {error}"}
                words = [k for k in ("skipped", "failed") if k in record[name]]
                spent = f"{time.perf_counter() - started:.0f} s"
                print(f"{name}:", spent, *words, file=sys.stderr, flush=True)
        finally:
            here = str(Path.cwd())
            os.chdir(before)
            torch.set_num_threads(threads)
    return json.loads(json.dumps(record).replace(here, "FOLDER"))


def main(arguments: list[str]) -> int:
    command, file, *chosen = [*arguments, "", ""]
    chosen = [name for name in chosen if name] or list(SECTIONS)
    if command not in ("write", "check") or not file or not set(chosen) <= set(SECTIONS):
        print(f"{__doc__}\nSections: {', '.join(SECTIONS)}")
        return 2
    path = Path(file).absolute()
    before = json.loads(path.read_text("utf-8")) if command == "check" else {}
    record = measured(chosen)
    found = [f"{name}: {kept['failed']}" for name, kept in record.items() if "failed" in kept]
    if command == "write":
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print("\n".join(found) or f"written: {path}")
        return bool(found)
    for name in chosen:
        if name not in before or "skipped" in before[name] or "skipped" in record[name]:
            print(f"{name}: not compared: not in both records")
        elif "failed" not in record[name]:
            found += differences(before[name], record[name], name)
    print("\n".join(found) or "no difference")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
