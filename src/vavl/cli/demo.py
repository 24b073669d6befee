"""``vavl demo``: the whole way on a synthetic corpus, from videos to a report and predictions."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from vavl.cli.display import Output, print_predictions, print_scores
from vavl.cli.progress import TrainingDisplay
from vavl.config.experiment import DataConfig, ExperimentConfig, TrainingConfig, to_toml
from vavl.data.corpora.synthetic import prepare_synthetic
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.evaluation.evaluate import evaluate_runs
from vavl.evaluation.report import write_report
from vavl.features.extract import extract
from vavl.features.registry import build_extractor
from vavl.inference import load
from vavl.inference.files import ClipFiles
from vavl.inference.illustrating import illustrate
from vavl.media.writing import copy_picture
from vavl.training.experiment import train_experiment
from vavl.training.run_folder import FoldDirectory
from vavl.types import Modality

SPEAKERS, CLIPS_PER_SPEAKER = 12, 12
WORKERS = min(4, os.cpu_count() or 1)


def demo_experiment(out: Path, seed: int) -> ExperimentConfig:
    """The experiment of the demo: a narrow small VAVL, three folds."""
    return ExperimentConfig(
        name="demo",
        runs_dir=out / "runs",
        data=DataConfig(
            manifest=out / "corpus" / "manifest.parquet",
            acoustic=out / "stores" / "acoustic",
            visual=out / "stores" / "visual",
            attributes=("arousal", "valence"),
            kfold=3,
            development_share=0.2,
            balance_by="sex",
        ),
        model={"preset": "small", "width": 64, "head_widths": [64, 32]},
        training=TrainingConfig(
            epochs=15,
            batch_size=16,
            learning_rate=2e-3,
            learning_rate_schedule="cosine",
            warmup_epochs=1,
            gradient_clip=5.0,
            acoustic_noise=0.2,
            visual_noise=0.2,
            time_masking=0.2,
            label_smoothing=0.1,
            selection="loss",
            seed=seed,
        ),
    )


def run_demo(out: Path, *, seed: int = 0) -> Path:
    """Makes a corpus of videos, extracts, trains, evaluates, writes a report and predicts.

    Run again on the same folder, it goes on where it was interrupted.

    Args:
        out: Where everything is written.
        seed: Seed of the corpus and of the training.

    Returns:
        The report.
    """
    started = time.perf_counter()
    console = Output(force_terminal=sys.stdout.isatty())
    console.rule("1. A synthetic corpus: voices and drawn faces made by rules, not by people")
    corpus = out / "corpus"
    table = corpus / "manifest.parquet"
    manifest = (
        Manifest.load(table)
        if table.is_file()
        else prepare_synthetic(
            corpus,
            speakers=SPEAKERS,
            clips_per_speaker=CLIPS_PER_SPEAKER,
            seed=seed,
            workers=WORKERS,
            progress=True,
        )
    )
    console.print(f"{len(manifest)} clips of {len(manifest.speakers)} speakers in {corpus}")

    console.rule("2. Features of sound (log-mel) and of the face found in the video (compact-face)")
    for modality, name in ((Modality.ACOUSTIC, "logmel"), (Modality.VISUAL, "compact-face")):
        extractor = build_extractor(modality, name)
        report = extract(manifest, extractor, out / "stores" / modality, workers=WORKERS)
        console.print(f"{modality}: {report.summary()}")

    console.rule("3. Training on speakers apart from those that are tested")
    config = demo_experiment(out, seed)
    with TrainingDisplay(console) as display:
        folds = train_experiment(config, on_fold=display.begin)

    console.rule("4. Scores on speakers that the models have never met")
    scores = evaluate_runs([config.run_dir])
    print_scores(scores.evaluation, console)
    page = write_report(
        scores.evaluation,
        scores.tables,
        out / "evaluation",
        histories=scores.histories,
        config_text=to_toml(config),
        title="Demo on the synthetic corpus",
    )

    console.rule("5. A clip of such a speaker: sound and face, sound alone, face alone")
    files = sample_files(manifest, folds[0], out / "clips")
    plot, overlay = out / "prediction.png", out / "prediction.mp4"
    recognizer = load(folds[0].path)
    both = illustrate(
        recognizer, ClipFiles(files[0].name, media=files[0]), plot=plot, overlay=overlay
    )
    print_predictions([both, *map(recognizer.predict, files[1:])], "table")
    console.print(
        f"The clip was made to express {files[0].name.split('-')[0]!r}. What is there is used: the "
        "same model reads all three.",
        f"Over time: {plot}",
        f"With the face that was found: {overlay}",
        f"Once more: vavl predict {' '.join(map(str, files))} --model {folds[0].path}",
        sep="\n",
        soft_wrap=True,
    )

    console.rule("What next")
    console.print(
        "These voices and faces are made up. The model in the package was trained on real people:",
        "  vavl predict VIDEO --overlay marked.mp4",
        "Your own clips and labels: vavl init folder",
        sep="\n",
        soft_wrap=True,
    )
    console.print(f"\nDone in {time.perf_counter() - started:.0f} s.")
    console.print(f"Report: {page}", soft_wrap=True)
    return page


def sample_files(manifest: Manifest, fold: FoldDirectory, folder: Path) -> list[Path]:
    """Copies one test clip three times: with both modalities, its sound alone, its face alone."""
    utterance = manifest.by_id[Partition.load(fold.partition_file).test[0]]
    video = manifest.path(utterance, "video_path")
    sound = manifest.path(utterance, "audio_path")
    assert video is not None
    assert sound is not None
    folder.mkdir(parents=True, exist_ok=True)
    emotion = utterance.category
    return [
        Path(shutil.copyfile(video, folder / f"{emotion}-both.mp4")),
        Path(shutil.copyfile(sound, folder / f"{emotion}-sound-alone.wav")),
        copy_picture(video, folder / f"{emotion}-face-alone.mp4"),
    ]
