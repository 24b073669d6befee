"""Commands that make data: utterance tables of corpora, and features."""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Callable
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from vavl.cli.commands import Command, arg
from vavl.errors import EXIT_OK, EXIT_PARTIAL, InputError

if TYPE_CHECKING:
    from vavl.data.manifest import Manifest

_MOST_THREADS = 256


def prepare_commands() -> list[Command]:
    """A command for each corpus, with the options and the help of the function that prepares it."""
    from vavl.data.corpora import CORPORA

    return [
        Command(
            f"vavl prepare {name.replace('_', '-')}",
            _prepare_command(name, function),
            takes_folder=True,
        )
        for name, function in CORPORA.items()
    ]


def _prepare_command(name: str, function: Callable[..., Manifest]) -> Callable[..., int]:
    parameters = dict(signature(function, eval_str=True).parameters)
    parameters["out"] = parameters["out"].replace(default=Path("data") / name)
    # Whether to show progress is not asked on the command line: a terminal does.
    fixed = {"progress": True} if parameters.pop("progress", None) else {}

    def command(out: Path, **options: Any) -> int:
        return _report_manifest(function(out=out, **options, **fixed), out)

    # What Command reads.
    command.__signature__ = Signature(list(parameters.values()))  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters.values()}
    command.__doc__ = function.__doc__
    return command


def _report_manifest(manifest: Manifest, out: Path) -> int:
    from collections import Counter

    counts = Counter(utterance.category for utterance in manifest)
    listed = ", ".join(
        f"{name or 'unlabelled'} {count}"
        for name, count in sorted(counts.items(), key=lambda item: str(item[0]))
    )
    print(f"{len(manifest)} utterances of {len(manifest.speakers)} speakers ({listed})")
    print(f"Utterance table: {out / 'manifest.parquet'}")
    return EXIT_OK


def extract(
    manifest: Path,
    /,
    out: str,
    acoustic: str | None = None,
    visual: str | None = None,
    layer: Annotated[tuple[int, ...], arg(repeated=True)] = (),
    normalization: Literal["utterance", "corpus", "none"] = "utterance",
    partition: Path | None = None,
    speed: float = 1.0,
    silence_db: float | None = None,
    speech_only: bool = False,
    window_s: float | None = None,
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    device: str = "cpu",
    engine: Literal["local", "ray"] = "local",
    workers: int = 0,
    threads: int | None = None,
    gpus: float | None = None,
    clips_per_shard: int | None = None,
    set: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE", repeated=True)] = (),
) -> int:
    """Extract features into stores; run again to resume, or to mend a damaged store.

    Acoustic extractors: logmel, logmel-pitch, whisper-base (no download), hf:ID_OR_DIR (wav2vec
    2.0, HuBERT, WavLM, Whisper and relatives), wav2vec2-large-robust-12, arrays, and waveform (the
    samples, for an encoder that is tuned in training). Visual extractors:
    compact-face (faces of a video, no download), efficientnet-b2-affectnet (the paper's, needs
    vavl[onnx]), hf:ID_OR_DIR (any transformers image model, on faces of a video), arrays.
    NAME:SOURCE says where weights lie. An extractor of your own is package.module:Class, see
    docs/extending.md. The stores are OUT/acoustic and OUT/visual.

    Every parameter of an extractor is an option, too: --visual.frame-rate-hz 30. The options below
    that name no modality are those of the sound.

    Args:
        manifest: Utterance table, as written by `vavl prepare`.
        out: Folder for the stores, or an address, e.g. s3://bucket/stores, gs://, abfs://, hf://.
        acoustic: Extractor of the sound; none leaves it out.
        visual: Extractor of the face; none leaves it out.
        layer: Hidden layer to take from whisper-base, by default 2, 3 and 4, or from an hf: speech
            encoder, by default the last. Given several times, the layers stand side by side.
        normalization: Of the waveform: zero mean and unit variance per clip; by the statistics of
            the training clips of a partition; or none.
        partition: For --normalization corpus: the partition (JSON) whose training clips count.
        speed: Play the sound faster or slower: for stores to augment training with.
        silence_db: Leave out what is quieter than the loudest moment of a clip by more than this,
            e.g. 30: pauses, and the silence before and after.
        speech_only: Take nothing but the speech of a clip, joined; a clip without any fails.
        window_s: Take what is longer in windows of so many seconds, with an hf: speech encoder that
            otherwise attends to whole clips, and refuses those of more than 5 minutes.
        precision: Of the products of a speech encoder; faster on a GPU and less exact.
        device: Where the networks run: auto, cpu, cuda, cuda:1, mps. The features are the same, up
            to rounding.
        engine: local, or ray: on the cluster that RAY_ADDRESS names, or else on this machine
            (needs vavl[ray]).
        workers: Worker processes; 0 works in this process. They read sound for a speech encoder
            on an accelerator, and do everything otherwise. With ray the actors; 0 is as many as
            the cluster has room for.
        threads: CPU threads of this process; with ray of each actor, by default 1.
        gpus: With ray and a GPU: what each actor gets of one, by default 0.25.
        clips_per_shard: Clips per file; what is lost at most when a process is killed.
        set: Parameters of the extractors as MODALITY.PARAMETER=VALUE, e.g. visual.frame_rate_hz=30.
    """
    from vavl.cli.options import extractor_parameters
    from vavl.data.manifest import Manifest
    from vavl.features.extract import extract as run_extraction
    from vavl.features.extract import training_statistics
    from vavl.features.registry import build_extractor
    from vavl.types import Modality

    if acoustic is None and visual is None:
        raise InputError("--acoustic, --visual: expected at least one extractor, got none")
    asked: dict[str, Any] = {
        "layer": layer[0] if len(layer) == 1 else layer or None,
        "normalization": None if normalization == "utterance" else normalization,
        "speed": None if speed == 1 else speed,
        "silence_db": silence_db,
        "speech_only": speech_only or None,
        "window_s": window_s,
        "precision": None if precision == "float32" else precision,
    }
    # Only what was asked for: an extractor that lacks the parameter then says so.
    sound = {name: value for name, value in asked.items() if value is not None}
    if acoustic is None and sound:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sound)
        raise InputError(f"{options}: expected --acoustic with it, got none")
    if partition is not None and normalization != "corpus":
        raise InputError(
            f"--partition: expected --normalization corpus with it, got {normalization}"
        )
    if partition is None and normalization == "corpus":
        raise InputError("--partition: expected one for --normalization corpus, got none")
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise InputError(f"--threads: expected 1 to {_MOST_THREADS}, got {threads}")
    if threads is not None and engine == "local":
        import torch

        torch.set_num_threads(threads)
    if gpus is not None and engine == "local":
        raise InputError("--gpus: expected --engine ray with it, got local")
    limits = {"threads": threads, "gpus": gpus, "clips_per_shard": clips_per_shard}
    given: dict[str, Any] = {name: n for name, n in limits.items() if n is not None}
    table = Manifest.load(manifest)
    if partition is not None:
        sound |= training_statistics(table, partition)
    own = extractor_parameters(set)
    failed = 0
    for modality, name in ((Modality.ACOUSTIC, acoustic), (Modality.VISUAL, visual)):
        if name is None and own[modality]:
            raise InputError(
                f"--{modality}.{next(iter(own[modality]))}: expected --{modality} with it, got none"
            )
        if name is None:
            continue
        parameters = (sound if modality is Modality.ACOUSTIC else {}) | own[modality]
        extractor = build_extractor(modality, name, device=device, **parameters)
        store = posixpath.join(out, modality)
        report = run_extraction(table, extractor, store, engine=engine, workers=workers, **given)
        failed += len(report.failed)
        print(f"{modality}: {report.summary()} -> {store}")
        if report.failed:
            print(f"  reasons: {store}/failures.csv", file=sys.stderr)
    filmed = sum(clip.video_path is not None for clip in table)
    if filmed and visual is None:
        hint = "--visual compact-face extracts the face"
        print(f"{filmed} clips have a picture: {hint}", file=sys.stderr)
    return EXIT_PARTIAL if failed else EXIT_OK
