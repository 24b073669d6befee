"""The model card of a run: what it was made of, how good it is, and what it is not for."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vavl.config.experiment import ExperimentConfig
from vavl.data.manifest import Manifest
from vavl.data.partition import Partition
from vavl.data.speakers import SEEN_SPEAKERS
from vavl.errors import counted
from vavl.evaluation.evaluate import run_config
from vavl.evaluation.report import notes, score_tables
from vavl.evaluation.scores import Evaluation
from vavl.evaluation.wording import (
    cell_text,
    markdown_table,
    measure_name,
    with_limits,
    write_texts,
)
from vavl.models.pretrained import CARD_FILE, FEATURES_FILE, read_features, read_model_config
from vavl.system.atomic import read_json
from vavl.training.run_folder import (
    CARD_MARK,
    FINAL,
    PROVENANCE_FILE,
    SCHEMA_VERSION,
    FoldDirectory,
    folds_of_run,
    is_own_card,
)

_SCORES = re.compile(r"^## Scores\n\n(.*?)\n\n(?=## )", re.MULTILINE | re.DOTALL)


def write_cards(run: Path, evaluation: Evaluation | None = None) -> None:
    """Writes the model card of a run, which is that of its final model where it has one.

    A card that somebody has taken over, by removing its first line, stays as it is.

    Args:
        run: The run's folder, with a finished fold.
        evaluation: The scores of all its folds; without it those of the card that is there stay.

    Raises:
        StoreError: A file of the run is missing or damaged.
        InputError: The manifest that it was trained on is missing.
    """
    config, folds = run_config(run), folds_of_run(run)
    manifest = Manifest.load(config.data.manifest)
    before = (run / CARD_FILE).read_text(encoding="utf-8") if is_own_card(run) else ""
    kept = _SCORES.search(before)
    if evaluation is not None:
        scores = "\n".join(_scores(evaluation))
    else:
        scores = kept[1] if kept else f"Not evaluated yet: `vavl evaluate {run}`."
    final = FoldDirectory(run / FINAL)
    models = [final] if final.finished else folds
    for folder in (run, final.path) if final.finished else (run,):
        if is_own_card(folder) or not (folder / CARD_FILE).exists():
            lines = _card(config, manifest, models, folds, run, scores)
            write_texts(folder, {CARD_FILE: "\n".join(lines) + "\n"})


def _card(
    config: ExperimentConfig,
    manifest: Manifest,
    models: Sequence[FoldDirectory],
    folds: Sequence[FoldDirectory],
    run: Path,
    scores: str,
) -> Iterator[str]:
    """The lines of the card of some models that answer together, of a run with these folds."""
    is_final = models[0].path.name == FINAL
    yield from (CARD_MARK, f"# Model card: {config.name}{', all speakers' if is_final else ''}", "")
    yield from markdown_table(("", ""), _facts(config, models, run), texts=(0, 1))
    yield from ("", "## Data", "", *_data(manifest, models))
    yield from ("", "## Scores", "", scores)
    yield from ("", "## Limits", "", *_limits(config, manifest, models, folds))


def _facts(
    config: ExperimentConfig, models: Sequence[FoldDirectory], run: Path
) -> Iterator[tuple[str, str]]:
    first, settings = models[0], config.training
    model = read_model_config(first.path)
    answer = f"mean of {len(models)} models, one for each fold" if len(models) > 1 else "one model"
    yield "Model", f"{model.name} ({answer})"
    if (first.path / FEATURES_FILE).is_file():
        for modality, spec in read_features(first.path).items():
            yield {"acoustic": "Sound", "visual": "Face"}[modality], spec.description
    if model.categories:
        yield "Categories", ", ".join(model.categories)
    if model.attributes:
        yield "Attributes, in [0, 1]", ", ".join(model.attributes)
    epochs = ", ".join(str(model.best_epoch) for model in models)
    schedule = f"{settings.learning_rate_schedule} over {counted(settings.epochs, 'epoch')}"
    yield (
        "Training",
        f"weights of epoch {epochs}; batches of {settings.batch_size}, learning rate "
        f"{settings.learning_rate:g} ({schedule}), seed {settings.seed}; all settings: config.toml",
    )
    provenance = read_json(run / PROVENANCE_FILE, SCHEMA_VERSION)
    yield "Command", f"`{shlex.join(['vavl', *provenance['command']])}`"
    versions = [f"{name} {provenance['versions'][name]}" for name in ("vavl", "torch", "python")]
    yield "Made with", f"{', '.join(versions)}; revision {provenance['git_revision'] or 'unknown'}"


def _data(manifest: Manifest, models: Sequence[FoldDirectory]) -> Iterator[str]:
    partitions = [Partition.load(model.partition_file) for model in models]
    learned = {name for p in partitions for name in (*p.train, *p.development)}
    clips = [clip for clip in manifest if clip.utterance_id in learned]
    corpora = ", ".join(sorted({clip.corpus for clip in clips}))
    speakers = len({clip.speaker for clip in clips})
    yield (
        f"{counted(len(clips), 'clip')} of {counted(speakers, 'speaker')} ({cell_text(corpora)}): "
        "all that was trained on, or chosen by. SHA-256 of their table: "
        f"`{manifest.sha256}`."
    )
    counts = Counter(clip.category or "(without a category)" for clip in clips)
    yield from ("", *markdown_table(("category", "clips"), _rows(counts.most_common())))


def _rows(counts: Iterable[tuple[str, int]]) -> list[tuple[str, str]]:
    return [(name, f"{count:,}") for name, count in counts]


def _scores(evaluation: Evaluation) -> Iterator[str]:
    yield (
        "Each clip is predicted by a model that has never met its speaker. "
        f"{evaluation.confidence * 100:g} % intervals by speaker. "
        + " ".join(map(cell_text, notes(evaluation)))
    )
    for table in score_tables(evaluation):
        rows = [
            [str(view), *(with_limits(found.pooled) if found else "" for found in row)]
            for view, row in table.rows()
        ]
        names = [table.title, *map(measure_name, table.measures)]
        yield from ("", *markdown_table(names, rows))


def _limits(
    config: ExperimentConfig,
    manifest: Manifest,
    models: Sequence[FoldDirectory],
    folds: Sequence[FoldDirectory],
) -> Iterator[str]:
    if models[0].path.name == FINAL:
        yield (
            "- Trained on all speakers: nobody is left to test it on. The scores are those of "
            f"{counted(len(folds), 'model')} of the same settings, each trained without the "
            "speakers that it is tested on; the number of epochs is the median of theirs."
        )
    elif len(models) > 1:
        yield (
            "- The scores are those of single models, each on speakers that it has never met. The "
            "mean of all of them, which `--model` loads, is not scored: each speaker is known to "
            "some of them."
        )
    yield (
        f"- The scores hold for people and recordings like those of the data: "
        f"{counted(len(manifest.speakers), 'speaker')}. Other languages, ages, microphones, "
        "cameras, and spontaneous instead of acted emotion were not measured unless the data have "
        "them: expect less."
    )
    if config.data.speaker_normalisation:
        yield f"- {SEEN_SPEAKERS}"
    yield (
        "- It names what an expression looks and sounds like to others, not what somebody feels."
    )
    yield (
        "- Not for decisions about people: hiring, education, policing, credit, health, border "
        "control, or surveillance. In the European Union, inferring emotions at work and in "
        "education is prohibited (AI Act, article 5)."
    )
    yield "- The licences of the data and of the extractors' weights bind the model, too."
