"""The ``vavl`` command. Thin: each command parses, calls one function, and prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from vavl import __version__
from vavl.errors import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PARTIAL,
    MediaError,
    VavlError,
)

DESCRIPTION = (
    "Audio-visual emotion recognition that works with whatever modality is there. Exit codes: 0 "
    "done, 1 defect in vavl, 2 bad input, 3 done but some items failed, 130 interrupted."
)

# Everything heavy is imported inside the commands, so that --help answers at once.
if TYPE_CHECKING:
    from vavl.data.manifest import Manifest


app = SubcommandApp()


@app.command
def prepare() -> int:
    """Make the utterance table of a corpus; `vavl prepare --help` lists them."""
    # Stands here for the list of commands: see run().
    return run(["prepare"])


def _prepare_app(*, brief: bool) -> SubcommandApp:
    """A command for each corpus, with the options and the help of the function that prepares it."""
    from vavl.data.corpora import CORPORA

    corpora = SubcommandApp()
    for name, function in CORPORA.items():
        command = _prepare_command(name, function)
        first_line = (command.__doc__ or "").partition("\n\n")[0]
        corpora.command(name=name, help=first_line if brief else None)(command)
    return corpora


def _prepare_command(name: str, function: Callable[..., Manifest]) -> Callable[..., int]:
    # Whether to show progress is not asked on the command line: a terminal does.
    shown = {"progress": True} if "progress" in signature(function).parameters else {}

    def command(*positional: Path, out: Path, **options: Any) -> int:
        return _report_manifest(function(*positional, out=out, **options, **shown), out)

    hints: dict[str, Any] = get_type_hints(function)
    parameters = []
    for parameter in signature(function).parameters.values():
        if parameter.name in shown:
            continue
        if parameter.name == "root":
            made = Parameter("root", Parameter.POSITIONAL_ONLY, annotation=Positional[Path])
        else:
            default = Path("data") / name if parameter.name == "out" else parameter.default
            made = parameter.replace(
                kind=Parameter.KEYWORD_ONLY, default=default, annotation=hints[parameter.name]
            )
        parameters.append(made)
    # What tyro reads.
    command.__signature__ = Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": int}
    command.__doc__ = (function.__doc__ or "").replace("``", "`")
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


@app.command
def extract(
    manifest: Positional[Path],
    /,
    out: Path,
    acoustic: str | None = None,
    visual: str | None = None,
    layer: int | None = None,
    normalization: Literal["utterance", "corpus", "none"] = "utterance",
    partition: Path | None = None,
    speed: float = 1.0,
    workers: int = 0,
    threads: int | None = None,
) -> int:
    """Extract features into stores; run again to resume, or to mend a damaged store.

    Acoustic extractors: logmel, logmel-pitch, hf:ID_OR_DIR (any transformers speech encoder),
    wav2vec2-large-robust-12, arrays. Visual extractors: compact-face (faces of a video, no
    download), efficientnet-b2-affectnet (the paper's, needs vavl[onnx]), hf:ID_OR_DIR (any
    transformers image model, on faces of a video), arrays. NAME:SOURCE says where weights lie. The
    stores are OUT/acoustic and OUT/visual.

    Args:
        manifest: Utterance table, as written by `vavl prepare`.
        out: Folder for the stores.
        acoustic: Extractor of the sound; none leaves it out.
        visual: Extractor of the face; none leaves it out.
        layer: Hidden layer to take from an hf: speech encoder; by default the last.
        normalization: Of the waveform: zero mean and unit variance per clip; by the statistics of
            the training clips of a partition; or none.
        partition: For --normalization corpus: the partition (JSON) whose training clips count.
        speed: Play the sound faster or slower: for stores to augment training with.
        workers: Worker processes; 0 works in this process.
        threads: CPU threads of this process.
    """
    from vavl.data.manifest import Manifest
    from vavl.errors import InputError
    from vavl.features.extract import build_extractor
    from vavl.features.extract import extract as run_extraction
    from vavl.types import Modality

    if acoustic is None and visual is None:
        raise InputError("--acoustic, --visual: expected at least one extractor, got none")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    table = Manifest.load(manifest)
    failed = 0
    for modality, name in ((Modality.ACOUSTIC, acoustic), (Modality.VISUAL, visual)):
        if name is None:
            continue
        parameters: dict[str, Any] = {}
        if modality is Modality.ACOUSTIC:
            # Only what was asked for: an extractor that lacks the parameter then says so.
            if normalization != "utterance":
                parameters["normalization"] = normalization
            if normalization == "corpus":
                parameters |= _corpus_statistics(table, partition)
            if speed != 1:
                parameters["speed"] = speed
            if layer is not None:
                parameters["layer"] = layer
        extractor = build_extractor(modality, name, **parameters)
        report = run_extraction(table, extractor, out / modality, workers=workers)
        failed += len(report.failed)
        print(f"{modality}: {report.summary()} -> {out / modality}")
        if report.failed:
            print(f"  reasons: {out / modality / 'failures.csv'}", file=sys.stderr)
    return EXIT_PARTIAL if failed else EXIT_OK


def _corpus_statistics(manifest: Manifest, partition: Path | None) -> dict[str, float]:
    """Waveform statistics of the training clips, as the paper has them."""
    from vavl.data.partition import Partition
    from vavl.errors import InputError
    from vavl.features.waveform import corpus_statistics

    if partition is None:
        raise InputError("--partition: expected one for --normalization corpus, got none")
    clips = manifest.select(Partition.load(partition).train)
    paths = [path for clip in clips if (path := manifest.path(clip, "audio_path")) is not None]
    statistics = corpus_statistics(paths)
    return {"corpus_mean": statistics.mean, "corpus_std": statistics.std}


@app.command
def train(
    config: Positional[Path],
    /,
    set: tuple[str, ...] = (),
    folds: tuple[str, ...] = (),
) -> int:
    """Train the folds of an experiment; run again to resume.

    Every key of the configuration can be overridden: --training.epochs 5, or --epochs 5 where the
    last word is enough. `vavl keys` lists them all.

    Args:
        config: Experiment (TOML).
        set: Overrides as KEY=VALUE; the same as --KEY VALUE.
        folds: Names of the folds to train, e.g. fold-0; by default all.
    """
    from rich.console import Console

    from vavl.config import load_experiment
    from vavl.display import TrainingDisplay
    from vavl.overrides import parse_assignments
    from vavl.training.experiment import train_experiment

    experiment = load_experiment(config, parse_assignments(set))
    console = Console()
    with TrainingDisplay(console) as display:
        train_experiment(experiment, only=folds, on_fold=display.begin)
    console.print(f"Run: {experiment.run_dir}\nNext: vavl evaluate {experiment.run_dir}")
    return EXIT_OK


@app.command
def keys() -> int:
    """List every key of an experiment file, with its meaning and default."""
    from rich.console import Console
    from rich.table import Table

    from vavl.overrides import known_keys

    table = Table("key", "meaning", box=None)
    for key, text in known_keys().items():
        table.add_row(key, text)
    Console().print(table)
    return EXIT_OK


@app.command
def evaluate(
    runs: Positional[tuple[Path, ...]],
    /,
    out: Path | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> int:
    """Score runs on their test folds, with intervals, and write a report.

    Runs that differ only in their seed are averaged. Written are report.html, scores.json,
    scores.csv and scores.md.

    Args:
        runs: Run folders, as written by `vavl train`, or single folds of them.
        out: Where the report goes; by default RUN/evaluation of the first run.
        replicates: Bootstrap resamples (of speakers).
        seed: Seed of the resamples.
    """
    from rich.console import Console

    from vavl.errors import InputError
    from vavl.evaluation.report import write_report
    from vavl.evaluation.run import evaluate_runs, run_config
    from vavl.evaluation.summary import print_scores

    if not runs:
        raise InputError("RUNS: expected at least one run folder, got none")
    out = out or runs[0] / "evaluation"
    scores = evaluate_runs(runs, replicates=replicates, seed=seed)
    print_scores(scores.evaluation, Console())
    config = run_config(runs[0])
    from vavl.config import to_toml

    report = write_report(
        scores.evaluation,
        scores.tables,
        out,
        histories=scores.histories,
        config_text=to_toml(config),
        title=", ".join(dict.fromkeys(run.name for run in runs)),
    )
    print(f"Report: {report}")
    return EXIT_OK


@app.command
def study(
    file: Positional[Path],
    /,
    out: Path = Path("studies"),
    workers: int | None = None,
    seeds: tuple[int, ...] = (),
    dry_run: bool = False,
    set: tuple[str, ...] = (),
) -> int:
    """Compare variants of an experiment on the same folds and seeds; run again to resume.

    A study file (TOML) names a base experiment and its variants, each a few overrides:

        name = "residual"
        base = "ravdess.toml"           # an experiment, beside this file
        seeds = [0, 1, 2]
        reference = "vavl"
        [variants.vavl]
        [variants.without-residual]
        set.model.residual = false
        [[hypotheses]]                  # written down before it is run
        claim = "The residual connection helps."
        variant = "vavl"
        against = "without-residual"
        expect = "> 0"

    configs/studies has more, docs/studies.md explains it all. Each variant is trained for each fold
    and seed, as many at a time as there are workers, on one thread each. Written to OUT/NAME are
    results.md, .tex and .csv with scores, paired comparisons and the verdict on each hypothesis,
    folds.csv with the score of every model, and pictures. Variants that differ in nothing but how
    a prediction is read share their models. A model that fails is recorded, the others go on, and
    the same command tries it again.

    Args:
        file: The study (TOML).
        out: Folder that holds studies.
        workers: Models that are trained at a time; by default one per CPU core.
        seeds: Seeds instead of the study's own, e.g. 0 for a first look.
        dry_run: List what would be trained, and how long it may take; nothing is written.
        set: Overrides of the base experiment for all variants, as KEY=VALUE, e.g.
            data.manifest=corpus/manifest.parquet.
    """
    from vavl.display import print_estimates, print_study
    from vavl.overrides import parse_assignments
    from vavl.studies.config import load_study
    from vavl.studies.plan import make_plan

    plan = make_plan(load_study(file, parse_assignments(set), seeds), out)
    if dry_run:
        from vavl.studies.estimate import estimates

        print_estimates(estimates(plan), workers)
        return EXIT_OK
    from vavl.studies.report import write_study
    from vavl.studies.results import collect
    from vavl.studies.run import begin, run_tasks

    changes = begin(plan)
    failures = run_tasks(plan, workers=workers)
    results = collect(plan, failures, changes)
    report = write_study(results, plan.folder)
    print_study(results)
    for task, reason in failures:
        print(f"failed: {task.name}: {reason}", file=sys.stderr)
    print(f"Report: {report}")
    return EXIT_PARTIAL if results.incomplete else EXIT_OK


@app.command
def predict(
    paths: Positional[tuple[Path, ...]],
    /,
    model: Annotated[str, arg(aliases=["-m"])] = "compact",
    timeline: bool = False,
    plot: Path | None = None,
    overlay: Path | None = None,
    format: Literal["table", "json", "csv"] = "table",
    out: Path | None = None,
    workers: int = 0,
    device: str = "cpu",
) -> int:
    """Predict the emotion of clips: video or sound files, folders of them, folders of frames.

    A clip is predicted from whatever it has: sound and face, or one of them. NAME.visual.npy and
    NAME.acoustic.npy hold features of the clip NAME. A file that cannot be read is reported, and
    the others go on. With --out, a folder is filled with tables, one line as soon as a clip is
    done; the same command goes on where it was interrupted.

    Args:
        paths: Files and folders.
        model: The model of the package, a run, a fold of it, a model folder, an exported one, or
            a hub id.
        timeline: Predict over time as well, in windows of 2 s every 0.5 s.
        plot: Picture of the probabilities over time (PNG, SVG or PDF); for a single clip.
        overlay: Video with the face and the emotion drawn on it (mp4); for a single clip.
        format: What is printed.
        out: Folder for predictions.jsonl, .csv, .parquet and failures.csv, instead of printing.
        workers: With --out: processes that work at once; 0 works in this process.
        device: cpu, cuda, ...
    """
    from vavl.display import print_predictions, print_timelines
    from vavl.errors import InputError
    from vavl.inference import find_files, group_files, load, predict_many

    if not paths:
        raise InputError("PATHS: expected at least one file or folder, got none")
    clips = group_files(find_files(paths))
    if (plot or overlay) and (len(clips) > 1 or out):
        raise InputError(
            f"--plot, --overlay: expected a single clip and no --out, got {len(clips)} clips"
        )
    if out is not None:
        report = predict_many(
            clips, out, model=model, timeline=timeline, workers=workers, device=device
        )
        print(f"{report.summary()} -> {out}")
        if report.failed:
            print(f"  reasons: {out / 'failures.csv'}", file=sys.stderr)
        return EXIT_PARTIAL if report.failed else EXIT_OK
    recognizer = load(model, device=device)
    predictions, failures = [], []
    for clip in clips:
        try:
            if plot or overlay:
                from vavl.inference.pictures import illustrate

                predictions.append(illustrate(recognizer, clip, plot=plot, overlay=overlay))
            else:
                predictions.append(recognizer.predict_files(clip, timeline=timeline))
        except (MediaError, InputError) as error:
            failures.append((clip.name, str(error)))
    print_predictions(predictions, format)
    if timeline and format == "table":
        print_timelines(predictions)
    for name, reason in failures:
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return EXIT_PARTIAL if failures else EXIT_OK


@app.command
def stream(
    source: Positional[Path | None] = None,
    /,
    model: Annotated[str, arg(aliases=["-m"])] = "compact",
    camera: str | None = "/dev/video0",
    microphone: str | None = "default",
    video_pipe: str | None = None,
    audio_pipe: int | None = None,
    speed: float = 1.0,
    format: Literal["table", "json"] = "table",
    device: str = "cpu",
) -> int:
    """Predict live: from camera and microphone, a pipe, or a file at its own pace.

    Windows of 2 s, one every 0.5 s, each printed as soon as it is known, with its latency: how long
    after the end of the window the line is there. Ctrl-C ends it.

    Args:
        source: File or folder of frames that is played as if it happened now; otherwise a pipe or
            the devices are read.
        model: The model of the package, a run, a fold of it, a model folder, an exported one, or
            a hub id.
        camera: Device of Video4Linux; None for no picture.
        microphone: Device of ALSA, e.g. hw:1; None for no sound.
        video_pipe: WIDTHxHEIGHT@RATE of raw RGB frames (rgb24) on the standard input.
        audio_pipe: Sampling rate in Hz of raw mono samples (s16le) on the standard input.
        speed: Of a file: 2 plays twice as fast.
        format: What is printed: a line of a table, or of JSON.
        device: cpu, cuda, ...
    """
    from contextlib import suppress

    from vavl.display import window_printer
    from vavl.errors import InputError
    from vavl.inference import live, load
    from vavl.inference.sources import pipe_format

    given = {"SOURCE": source, "--video-pipe": video_pipe, "--audio-pipe": audio_pipe}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise InputError(f"{', '.join(chosen)}: expected one of them, got {len(chosen)}")
    recognizer = load(model, device=device)
    if source is not None:
        events = live.file_at_real_time(
            source, speed, audio=recognizer.hears, video=recognizer.sees
        )
    elif video_pipe is not None:
        events = live.pipe(sys.stdin.buffer, *pipe_format(video_pipe))
    elif audio_pipe is not None:
        events = live.pcm(sys.stdin.buffer, audio_pipe)
    else:
        events = live.device(
            camera if recognizer.sees else None, microphone if recognizer.hears else None
        )
    with suppress(KeyboardInterrupt):  # nothing is left half done: this is how a stream ends
        live.run_stream(recognizer, events, window_printer(format))
    return EXIT_OK


@app.command
def export(
    model: Positional[str],
    /,
    out: Path,
    format: Literal["onnx", "torch"] = "onnx",
    quantize: Literal["int8"] | None = None,
) -> int:
    """Export a model into graphs that run without vavl's code; needs vavl[onnx].

    One graph for each use: acoustic, visual, audiovisual. Each is checked against the model before
    anything is written. `vavl predict --model OUT` predicts with them.

    Args:
        model: The model of the package (compact), a run, a fold of it, a model folder or a hub id.
        out: Folder to write, which must not hold anything yet.
        format: onnx for onnxruntime, or torch for programs of torch.export (.pt2).
        quantize: int8 makes ONNX graphs smaller and faster, and a little less exact.
    """
    from vavl.export import export_model

    report = export_model(model, out, format=format, quantize=quantize)
    for use, size in report.graph_bytes.items():
        print(f"{use}: {size / 1e6:.1f} MB")
    print(f"Largest difference from the model: {report.largest_difference:.1g}")
    print(f"Exported: {report.folder}")
    return EXIT_OK


@app.command
def demo(out: Path = Path("demo"), seed: int = 0) -> int:
    """Try everything on a synthetic corpus: train, evaluate, report, predict.

    Args:
        out: Where everything is written.
        seed: Seed of corpus and training.
    """
    from vavl.demo import run_demo

    run_demo(out, seed=seed)
    return EXIT_OK


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with one of the codes of :mod:`vavl.errors`."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code."""
    try:
        if list(arguments) == ["--version"]:
            print(f"vavl {__version__}")
            return EXIT_OK
        if arguments and arguments[0] == "train":
            from vavl.overrides import as_assignments

            arguments = ["train", *as_assignments(arguments[1:], ("folds", "help"))]
        if arguments and arguments[0] == "prepare":
            corpora = _prepare_app(brief=arguments[1:] in ([], ["-h"], ["--help"]))
            code: int = corpora.cli(prog="vavl prepare", args=arguments[1:])
        else:
            code = app.cli(prog="vavl", description=DESCRIPTION, args=arguments)
        return code
    except VavlError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, e.g. `vavl keys | head`: nothing is wrong.
        sys.stderr.close()
        return EXIT_OK
