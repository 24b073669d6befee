"""Commands that put a model to use: predict, stream, export, and the demonstration of it all."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from vavl.cli.commands import arg, groups
from vavl.errors import EXIT_OK, EXIT_PARTIAL, InputError, MediaError, SetupError, is_disk_full

if TYPE_CHECKING:
    from vavl.inference import ClipFiles
    from vavl.inference.reader import Reading


@groups(
    What_is_predicted=("model", "timeline", "people", "segments", "segments_from", "unsure_below"),
    Who_it_is=("profile", "same_speaker"),
    What_is_read=("start", "end", "audio_track", "face", "frames"),
    What_comes_out=("format", "attribute_range", "out", "plot", "overlay", "faces"),
    How_it_is_computed=("engine", "workers", "gpus", "device"),
)
def predict(
    paths: tuple[Path, ...],
    /,
    model: Annotated[str, arg(aliases=["-m"])] = "compact",
    profile: Path | None = None,
    same_speaker: bool = False,
    unsure_below: Annotated[float | None, arg(metavar="P")] = None,
    timeline: bool = False,
    people: Literal["all", "main"] = "all",
    segments: bool = False,
    segments_from: Path | None = None,
    start: Annotated[str | None, arg(metavar="TIME")] = None,
    end: Annotated[str | None, arg(metavar="TIME")] = None,
    audio_track: Annotated[str | None, arg(metavar="N|LANGUAGE")] = None,
    face: Literal["found", "upright", "given"] = "found",
    frames: bool = False,
    plot: Path | None = None,
    overlay: Path | None = None,
    faces: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    format: Literal["table", "json", "csv", "srt", "vtt", "rttm"] = "table",
    attribute_range: tuple[float, float] | None = None,
    out: Path | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int = 0,
    device: str = "cpu",
    gpus: float | None = None,
) -> int:
    """Predict the emotion of clips: video or sound files, pictures, folders of them.

    A clip is predicted from whatever it has: sound and face, or one of them. NAME.visual.npy and
    NAME.acoustic.npy hold features of the clip NAME. A file that cannot be read is reported, and
    the others go on. With --out, a folder is filled with tables, one line as soon as a clip is
    done; the same command goes on where it was interrupted.

    The confidence is the calibrated probability of the most probable category: of clips like those
    that it was calibrated on, with a confidence of 0.7, 7 in 10 are right. Below a threshold the
    emotion is "unsure"; the probabilities are given all the same.

    With --same-speaker, all clips are of one person. They are read twice: first all of them,
    without labels, to get to know the person; then each is predicted with what is known. Ten clips
    or more, of all moods, are best. With --out, what was interrupted while predicting goes on, and
    an interrupted first reading begins anew. Once clips were added or have changed, another --out
    is needed: what is known of the person changes all predictions. OUT/speaker.safetensors is then
    a profile, for --profile on another day: averages of features, personal data.

    Args:
        paths: Files and folders.
        model: The model of the package, a run (its final model, or the mean of its folds), one
            fold of it, a model folder, an exported one, or a hub id.
        profile: What `vavl enrol` has written about the one person in all clips.
        same_speaker: All clips are of one person, of whom there is no profile.
        unsure_below: With a confidence below it, in [0, 1), the emotion is "unsure"; 0 for never.
            Default: what the model was given, and 0 where it was given none.
        timeline: Predict over time as well, in windows of 2 s every 0.5 s.
        people: Follow and predict everybody in the picture, or the most prominent person alone.
        segments: Predict sentence by sentence as well: speech between two pauses.
        segments_from: Predict the spans of a transcript or a diarisation of another tool, and its
            speakers: a file that ends in .srt, .vtt, .rttm or .csv (start_s,end_s,speaker,text), or
            a folder with such a file NAME.rttm for each clip NAME.
        start: Where to begin, in seconds or as 1:02:03.5; times shown are those of the whole file.
        end: Where to stop, likewise.
        audio_track: Which of several tracks of sound is heard: its number, from 1, or its language,
            e.g. eng or en. Default: the one with speech, named in the notes.
        face: found: look for faces, in pictures on their side or upside down too; upright: in
            those the right way up alone; given: each picture is a face already, cropped closely or
            loosely.
        frames: A folder of pictures is a film of 25 frames a second, whatever their names. Without
            it, each is a clip of its own, unless their names count up.
        plot: Picture of the probabilities over time (PNG, SVG or PDF); or a folder, for NAME.png
            of each clip NAME.
        overlay: Video with every face and its emotion drawn on it (mp4); or a folder, for NAME.mp4
            of each clip with a picture.
        faces: Where the faces of each clip NAME go, cut out every half second, into a folder NAME;
            faces.csv in it says where they are.
        format: What is printed. With a timeline, csv has a row for each window; with segments for
            each of them. srt, vtt and rttm are made of segments; with --out, they are written as
            well, into a file for each clip.
        attribute_range: Print attributes as values of the raters' scale, from its lowest to its
            highest value, e.g. 1 5, instead of 0 to 1. Files and JSON keep 0 to 1.
        out: Folder for predictions.jsonl, .csv, .parquet and failures.csv, instead of printing.
        engine: With --out: local, or ray: on the cluster that RAY_ADDRESS names, or else on this
            machine (needs vavl[ray]). All machines must find the clips under the same paths.
        workers: With --out: processes that work at once; 0 works in this process. With ray the
            actors; 0 is as many as the cluster has room for.
        device: Where all networks run: auto, cpu, cuda, cuda:1, mps. The workers share it.
        gpus: With ray and a GPU: what each actor gets of one, by default 0.25.
    """
    from vavl.cli.display import print_predictions
    from vavl.data.speakers import SpeakerProfile
    from vavl.inference import load, predict_many
    from vavl.inference.captions import CAPTION_FORMATS
    from vavl.inference.files import distinct_stems
    from vavl.inference.illustrating import Pictures
    from vavl.inference.many import get_to_know
    from vavl.inference.scale import on_scale
    from vavl.media.tracks import check_asked
    from vavl.metrics.attributes import Scale
    from vavl.system.progress import with_progress
    from vavl.system.ray import GPU_SHARE

    if out is None and workers:
        raise InputError("--workers: expected --out with it, got none")
    if out is None and engine == "ray":
        raise InputError("--engine ray: expected --out with it, got none")
    if gpus is not None and engine == "local":
        raise InputError("--gpus: expected --engine ray with it, got local")
    captions_as = next((form for form in CAPTION_FORMATS if form == format), None)
    if out is not None and format != "table" and captions_as is None:
        raise InputError("--format: expected no --out with it, where all tables are written")
    if timeline and out is None and captions_as is not None:
        raise InputError(
            f"--timeline: expected --format table, json or csv, or --out; got {format}"
        )
    if timeline and format == "csv" and (segments or segments_from):
        raise InputError(
            "--timeline, --segments: expected one of them with --format csv, got both; --out "
            "writes a table for each"
        )
    scale = None if attribute_range is None else Scale(*attribute_range)
    if scale is not None and (out is not None or format == "json"):
        raise InputError(
            "--attribute-range: expected it with what is printed as a table, CSV or captions; "
            "JSON and the files of --out keep 0 to 1"
        )
    start_s, end_s = _time_s("--start", start), _time_s("--end", end)
    if (plot or overlay) and (start or end):
        raise InputError("--plot, --overlay: expected no --start or --end, got a span")
    if same_speaker and profile is not None:
        raise InputError(
            "--same-speaker, --profile: expected one of them, got both; a profile already says who "
            "it is"
        )
    reading: Reading = {
        "start_s": start_s,
        "end_s": end_s,
        "audio_track": check_asked(audio_track),
        "face": face,
        "people": people,
    }
    pictures = Pictures(plot, overlay, faces)
    if pictures and out is not None:
        raise InputError("--plot, --overlay, --faces: expected no --out with them, got one")
    clips = _clips(paths, frames=frames)
    if segments_from is not None and not segments_from.exists():
        raise InputError(f"--segments-from: {segments_from} does not exist")
    if pictures.files and len(clips) > 1:
        raise InputError(
            f"--plot, --overlay: expected a folder for {len(clips)} clips, e.g. pictures/, got the "
            f"file {pictures.files[0]}"
        )
    if format in ("srt", "vtt") and out is None and len(clips) > 1:
        raise InputError(
            f"--format {format}: expected a single clip, or --out for a file for each, got "
            f"{len(clips)} clips"
        )
    wanted = segments_from or segments or captions_as is not None
    speaker = None if profile is None else SpeakerProfile.load(profile)
    if out is not None:
        report = predict_many(
            clips,
            out,
            model=model,
            timeline=timeline,
            segments=wanted,
            captions_as=captions_as,
            engine=engine,
            workers=workers,
            device=device,
            gpus=GPU_SHARE if gpus is None else gpus,
            speaker=speaker,
            same_speaker=same_speaker,
            unsure_below=unsure_below,
            **reading,
        )
        print(f"{report.summary()} -> {out}")
        if report.failed:
            print(f"  reasons: {out / 'failures.csv'}", file=sys.stderr)
        return EXIT_PARTIAL if report.failed else EXIT_OK
    recognizer = load(model, device=device, unsure_below=unsure_below)
    if scale is not None and not recognizer.attributes:
        raise InputError(f"--attribute-range: expected a model with attributes, got {model}")
    if speaker is not None:
        recognizer.profile_of(speaker)  # or an error, before any clip
    if same_speaker:
        speaker = get_to_know(clips, lambda: recognizer, progress=len(clips) > 1, **reading)
    predictions, failures = [], []
    named = zip(clips, distinct_stems(str(clip.media or clip.name) for clip in clips), strict=True)
    for clip, name in with_progress(named, len(clips), what="predicting", progress=len(clips) > 1):
        try:
            do = pictures.drawing(recognizer, clip, name) if pictures else recognizer.predict_files
            found = do(clip, timeline=timeline, speaker=speaker, segments=wanted, **reading)
            predictions.append(found if scale is None else on_scale(found, scale))
        except (MediaError, InputError) as error:
            if is_disk_full(error) or isinstance(error, SetupError):
                raise
            failures.append((clip.name, str(error)))
    print_predictions(predictions, format, timeline=timeline, segments=bool(wanted))
    return _ended(failures)


def _clips(paths: tuple[Path, ...], *, frames: bool = False) -> list[ClipFiles]:
    from vavl.inference import find_files, group_files

    if not paths:
        raise InputError("PATH: expected at least one file or folder, got none")
    return group_files(find_files(paths, frames=frames))


def _time_s(option: str, text: str | None) -> float | None:
    from vavl.inference.turns import clock_s

    try:
        return None if text is None else clock_s(text)
    except ValueError:
        raise InputError(f"{option}: expected seconds or 1:02:03.5, got {text!r}") from None


def _ended(failures: list[tuple[str, str]]) -> int:
    """Prints what failed, and why; returns the exit code."""
    for name, reason in failures:
        said = reason if name in reason.partition(": ")[0] else f"{name}: {reason}"
        print(f"failed: {said}", file=sys.stderr)
    return EXIT_PARTIAL if failures else EXIT_OK


def enrol(
    paths: tuple[Path, ...],
    /,
    speaker: str,
    out: Path,
    model: Annotated[str, arg(aliases=["-m"])] = "compact",
    device: str = "cpu",
) -> int:
    """Get to know a person from clips of them, without labels: write a profile for predicting.

    `vavl predict CLIP --profile OUT` then compares the person with themselves. Clips of all moods
    are best, ten or more of them. The profile holds averages of features: personal data.

    Args:
        paths: Files and folders, as for `vavl predict`.
        speaker: Name of the person.
        out: The profile to write, by custom NAME.safetensors; one that is there is replaced.
        model: As for `vavl predict`: the same one, or one with the same features.
        device: cpu, cuda, ...
    """
    from vavl.inference import load

    clips = _clips(paths)
    recognizer = load(model, device=device)
    failures = []
    for clip in clips:
        try:
            recognizer.adapt([clip], speaker=speaker)
        except (MediaError, InputError) as error:
            if is_disk_full(error) or isinstance(error, SetupError):
                raise
            failures.append((clip.name, str(error)))
    code = _ended(failures)
    if speaker not in recognizer.speakers:
        raise InputError("PATH: expected at least one clip that can be used, got none")
    profile = recognizer.speakers[speaker]
    profile.save(out)
    counts = ", ".join(f"{profile.clips(m)} {m}" for m in profile.moments)
    print(f"Profile of {speaker} (clips: {counts}): {out}")
    return code


def stream(
    source: Path | None = None,
    /,
    model: Annotated[str, arg(aliases=["-m"])] = "compact",
    camera: str | None = "/dev/video0",
    microphone: str | None = "default",
    video_pipe: str | None = None,
    audio_pipe: int | None = None,
    speed: float = 1.0,
    profile: Path | None = None,
    adapt: bool = False,
    unsure_below: Annotated[float | None, arg(metavar="P")] = None,
    format: Literal["table", "json"] = "table",
    device: str = "cpu",
) -> int:
    """Predict live: from camera and microphone, a pipe, or a file at its own pace.

    Windows of 2 s, one every 0.5 s, each printed as soon as it is known, with its latency: how long
    after the end of the window the line is there. Ctrl-C ends it.

    Args:
        source: File or folder of frames that is played as if it happened now; otherwise a pipe or
            the devices are read.
        model: The model of the package, a run (its final model, or the mean of its folds), one
            fold of it, a model folder, an exported one, or a hub id.
        camera: Device of Video4Linux; None for no picture.
        microphone: Device of ALSA, e.g. hw:1; None for no sound.
        video_pipe: WIDTHxHEIGHT@RATE of raw RGB frames (rgb24) on the standard input.
        audio_pipe: Sampling rate in Hz of raw mono samples (s16le) on the standard input.
        speed: Of a file: 2 plays twice as fast.
        profile: What `vavl enrol` has written about the one person in the stream.
        adapt: Get to know the one person in front on the way, without labels, by every window that
            does not overlap the one before; with --profile, in addition to it. The first windows
            are those of a stranger. Nothing is kept.
        unsure_below: As for `vavl predict`.
        format: What is printed: a line of a table, or of JSON.
        device: cpu, cuda, ...
    """
    from contextlib import suppress

    from vavl.cli.display import window_printer
    from vavl.data.speakers import SpeakerProfile
    from vavl.inference import load, sources
    from vavl.inference.live import run_stream

    given = {"SOURCE": source, "--video-pipe": video_pipe, "--audio-pipe": audio_pipe}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise InputError(f"{', '.join(chosen)}: expected one of them, got {len(chosen)}")
    pictures = None if video_pipe is None else _pipe_format(video_pipe)
    recognizer = load(model, device=device, unsure_below=unsure_below)
    speaker = None if profile is None else SpeakerProfile.load(profile)
    if speaker is not None:
        recognizer.profile_of(speaker)  # or an error, before any device is opened
    reader = recognizer.reader
    if source is not None:
        events = sources.file_at_real_time(
            source, speed, audio=reader.accepts_audio, video=reader.accepts_video
        )
    elif pictures is not None:
        events = sources.pipe(sys.stdin.buffer, *pictures)
    elif audio_pipe is not None:
        events = sources.pcm(sys.stdin.buffer, audio_pipe)
    else:
        events = sources.device(
            camera if reader.accepts_video else None, microphone if reader.accepts_audio else None
        )
    with suppress(KeyboardInterrupt):  # nothing is left half done: this is how a stream ends
        run_stream(recognizer, events, window_printer(format), speaker=speaker, adapt=adapt)
    return EXIT_OK


def _pipe_format(text: str) -> tuple[int, int, float]:
    """Width, height and frame rate of ``640x480@29.97``."""
    found = re.fullmatch(r"(\d{1,9})x(\d{1,9})@(\d{1,9}(?:\.\d{1,9})?)", text.strip())
    if found is None:
        raise InputError(
            f"--video-pipe: expected WIDTHxHEIGHT@FRAMES_A_SECOND, e.g. 640x480@25, got {text!r}"
        )
    return int(found[1]), int(found[2]), float(found[3])


def export(
    model: str,
    /,
    out: Path,
    format: Literal["onnx", "torch"] = "onnx",
    quantize: Literal["int8"] | None = None,
    standalone: bool = False,
) -> int:
    """Export a model into graphs that run without vavl's code; needs vavl[onnx].

    For compact, and for linear, vavl and vavl+ models. One graph for each use: acoustic, visual,
    audiovisual. Each is checked against the model before anything is written. They take features,
    and `vavl predict --model OUT` predicts with them; or, with --standalone, sound and pictures.

    Args:
        model: The model of the package (compact), a run with a final model, a fold of a run, a
            model folder or a hub id.
        out: Folder to write, which must not hold anything yet.
        format: onnx for onnxruntime, or torch for programs of torch.export (.pt2).
        quantize: int8 makes ONNX graphs smaller and faster, and a little less exact.
        standalone: Graphs of the whole way, for programs without vavl: from samples and pictures
            of faces to calibrated probabilities. All one must know is in their metadata.
    """
    from vavl.export import export_model

    report = export_model(
        model, out, format=format, quantize=quantize, standalone=standalone, progress=True
    )
    for use, size in report.graph_bytes.items():
        print(f"{use}: {size / 1e6:.1f} MB")
    print(f"Largest difference from the model: {report.largest_difference:.1g}")
    print(f"Exported: {report.folder}")
    return EXIT_OK


def model_card(model: str = "compact", /) -> int:
    """Print the card of a model: what it was trained on, how good it is, its licence and limits.

    Args:
        model: As for `vavl predict`. Default: the model of the package.
    """
    from vavl.inference.loading import model_card, model_folder

    card = model_card(model_folder(model))
    if card is None:
        raise InputError(f"MODEL: {model} has no card: there is no README.md in its folder")
    print(card, end="")
    return EXIT_OK


def demo(out: Path = Path("demo"), seed: int = 0, open: bool = False) -> int:
    """Try everything on a synthetic corpus: train, evaluate, report, predict.

    Args:
        out: Where everything is written.
        seed: Seed of corpus and training.
        open: Show the report in a browser at the end.
    """
    from vavl.cli.demo import run_demo

    report = run_demo(out, seed=seed)
    if open:
        import webbrowser

        webbrowser.open(report.resolve().as_uri())
    return EXIT_OK
