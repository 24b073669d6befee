"""What the command line shows: predictions as a table, JSON or CSV, scores, and studies."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vavl.errors import counted
from vavl.system.processes import usable_cores
from vavl.system.progress import duration
from vavl.types import NOTHING, UNSURE, Person, Prediction, TimedPrediction

if TYPE_CHECKING:  # training takes seconds to import, and printing a prediction needs none of it
    from vavl.evaluation.scores import Evaluation
    from vavl.studies.probe import DataEstimate
    from vavl.studies.results import StudyResults
    from vavl.studies.run import Estimate

Format = Literal["table", "json", "csv", "srt", "vtt", "rttm"]

_UNBROKEN = 10_000
"""Columns of a console that never breaks a line of ours."""

_LEAST = 0.005
"""A probability below it would be shown as 0.00."""

_UNBROKEN_COLUMNS = ("start", "end", "from", "person", "emotion", "confidence")
"""Columns of tables whose cells stay on one line."""

_SCORES_ACROSS = 4
"""As many columns of scores as fit a terminal of 80 characters; the rest are another table."""


class Output(Console):
    """Standard output; where its reader has gone, as of ``| head``, that is for others to catch."""

    def on_broken_pipe(self) -> None:
        """Raises the BrokenPipeError that is being handled; rich would end the process."""
        raise


def output() -> Console:
    """The standard output: as wide as the terminal is, and in a file or a pipe a row is a line."""
    console = Output()
    return console if console.is_terminal else Output(width=_UNBROKEN)


def print_predictions(
    predictions: Sequence[Prediction],
    form: Format,
    *,
    timeline: bool = False,
    segments: bool = False,
) -> None:
    """Prints predictions to the standard output.

    Args:
        predictions: One for each clip.
        form: A table or JSON of all; CSV with a row per clip, window or segment; or the segments
            alone in a format of :mod:`vavl.inference.captions`.
        timeline: Whether a table of windows follows, where the form is a table.
        segments: Whether segments were asked for.
    """
    if form == "table":
        _print_table(predictions)
        if timeline:
            print_timelines(predictions)
        if segments:
            print_segments(predictions)
    elif form == "json":
        _print_json(predictions)
    elif form == "csv":
        from vavl.inference.tables import clips_csv, segments_csv, timeline_csv

        as_csv = timeline_csv if timeline else segments_csv if segments else clips_csv
        sys.stdout.write(as_csv(predictions))
    else:
        from vavl.inference.captions import captions

        for prediction in predictions:
            sys.stdout.write(captions(prediction.segments, form, prediction.name))


def _print_table(predictions: Sequence[Prediction]) -> None:
    if not predictions:
        return
    rows = []
    for clip in predictions:
        several = len(clip.people) > 1
        rows.append(
            {
                "clip": clip.name,
                "person": "all" if several else "",
                **_emotion(clip),
                "from": clip.modality,
                "notes": "; ".join(clip.warnings),
            }
        )
        for person in clip.people if several else ():
            seen = f"seen {person.face_share or 0:.0%}, {person.start_s:.1f}-{person.end_s:.1f} s"
            rows.append(
                {
                    "clip": "",
                    "person": f"{person.number} (main)" if person.is_main else str(person.number),
                    **_emotion(person),
                    "from": person.modality or NOTHING,
                    "notes": seen,
                }
            )
    output().print(_table(rows))


def _emotion(prediction: Prediction | Person) -> dict[str, str]:
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    return {
        "emotion": prediction.label or "",
        "confidence": f"{ranked[0][1]:.2f}" if ranked else "",
        # A label that is unsure does not name the most probable category.
        "others": _values(
            {n: p for n, p in ranked[prediction.label != UNSURE :][:2] if p >= _LEAST}
        ),
        "attributes": _values(prediction.attributes),
    }


def _values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())


def print_timelines(predictions: Sequence[Prediction]) -> None:
    """Prints what was predicted over time, a line per window; of several people one table each."""
    for prediction in predictions:
        _print_timeline(prediction.name, prediction.timeline)
        for person in prediction.people if len(prediction.people) > 1 else ():
            _print_timeline(f"{prediction.name}, person {person.number}", person.timeline)


def _print_timeline(name: str, timeline: Sequence[TimedPrediction]) -> None:
    windows = [
        {
            "start": f"{window.start_s:.1f} s",
            "end": f"{window.end_s:.1f} s",
            "emotion": window.label or "",
            "confidence": _confidence(window),
            "attributes": _values(window.attributes),
            "from": window.modality or NOTHING,
            "face": "" if window.face_share is None else f"{window.face_share:.0%}",
        }
        for window in timeline
    ]
    output().print(Text(name), _table(windows), sep="\n")


def print_segments(predictions: Sequence[Prediction]) -> None:
    """Prints what was predicted by sentence or given span, and by speaker."""
    for prediction in predictions:
        spans = [
            {
                "start": f"{segment.start_s:.2f} s",
                "end": f"{segment.end_s:.2f} s",
                "speaker": segment.speaker or "",
                "emotion": segment.label or "",
                "confidence": _confidence(segment),
                "attributes": _values(segment.attributes),
                "from": segment.modality or NOTHING,
                "text": (segment.text or "").replace("\n", " "),
            }
            for segment in prediction.segments
        ]
        speakers = [
            {
                "speaker": name,
                "emotion": whole.label or "",
                "confidence": _confidence(whole),
                "attributes": _values(whole.attributes),
                "from": whole.modality,
                "length": f"{whole.duration_s or 0:.1f} s",
            }
            for name, whole in prediction.speakers.items()
        ]
        output().print(Text(prediction.name), _table(spans), sep="\n")
        if speakers:
            output().print(_table(speakers))


def _table(rows: Sequence[Mapping[str, str]]) -> Table:
    """What no row has is no column; words of others are shown as they are, and whole."""
    table = Table(box=None)
    columns = [name for name in (rows[0] if rows else ()) if any(row[name] for row in rows)]
    for name in columns:
        # A name is broken rather than cut: cut, many files of a corpus have the same name.
        table.add_column(name, no_wrap=name in _UNBROKEN_COLUMNS, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in columns))
    return table


def _confidence(window: TimedPrediction | Prediction) -> str:
    return "" if window.confidence is None else f"{window.confidence:.3f}"


def _print_json(predictions: Sequence[Prediction]) -> None:
    from vavl.inference import ClipPrediction

    listed = []
    for prediction in predictions:
        path = prediction.path if isinstance(prediction, ClipPrediction) else None
        listed.append({**prediction.to_dict(), "path": None if path is None else str(path)})
    print(json.dumps(listed, indent=2))


def window_printer(form: Literal["table", "json"]) -> Callable[[TimedPrediction, float], None]:
    """What prints a window of a live stream on a line of its own, at once."""
    if form == "table":
        print(f"{'from':>8} {'to':>8}  {'emotion':<12} {'conf.':>6}  {'by':<16} {'latency':>8}")

    def show(window: TimedPrediction, latency_s: float) -> None:
        if form == "json":
            line = json.dumps({**asdict(window), "latency_s": latency_s})
        else:
            line = (
                f"{window.start_s:>7.1f}s {window.end_s:>7.1f}s  {window.label or '':<12} "
                f"{_confidence(window):>6}  {window.modality or NOTHING:<16} {latency_s:>7.2f}s  "
                f"{_values(window.attributes)}"
            ).rstrip()
        print(line, flush=True)

    return show


def print_scores(evaluation: Evaluation, console: Console) -> None:
    """Prints the scores of an evaluation, their spread over folds, and paired differences."""
    from rich.box import SIMPLE_HEAD
    from rich.text import Text

    from vavl.evaluation.report import GROUPS_NOTE, group_columns, notes, score_tables
    from vavl.evaluation.wording import (
        difference_sentence,
        group_table,
        limits,
        measure_name,
        number,
    )

    for scores in score_tables(evaluation):
        for start in range(0, len(scores.measures), _SCORES_ACROSS):
            columns = slice(start, start + _SCORES_ACROSS)
            names = [measure_name(measure) for measure in scores.measures[columns]]
            table = Table(
                title=f"{scores.title}, pooled",
                title_justify="left",
                title_style="bold",
                box=SIMPLE_HEAD,
                pad_edge=False,
                collapse_padding=True,
            )
            table.add_column("view")
            if len(evaluation.partitions) > 1:
                names.append(f"{names[0]}\nover folds")
            for name in names:
                table.add_column(Text(name), justify="right")
            for view, row in scores.rows():
                cells = []
                for score in row[columns]:
                    ends = limits(score.pooled).replace(" to ", "-") if score else ""
                    estimate = number(score.pooled.estimate) if score else ""
                    cells.append(f"{estimate}\n{ends}" if ends else estimate)
                first = row[start]
                if first and len(evaluation.partitions) > 1:
                    cells.append(f"{number(first.fold_mean)}\n± {number(first.fold_std)}")
                table.add_row(str(view), *map(Text, cells))
            console.print(table)
    for column in group_columns(evaluation):
        header, groups = group_table(evaluation.groups, column)
        for start in range(3, len(header), _SCORES_ACROSS):
            shown = [0, 1, 2, *range(start, min(start + _SCORES_ACROSS, len(header)))]
            table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
            for place in shown:
                table.add_column(Text(header[place]), justify="right" if place else "left")
            for group in groups:
                table.add_row(*(Text(group[place]) for place in shown))
            console.print(table)
        console.print(Text(f"{GROUPS_NOTE}\n"))
    interval = f"{evaluation.confidence * 100:g} % intervals by speaker below each score. "
    console.print(Text(interval + " ".join(notes(evaluation))))
    console.print()
    for difference in evaluation.differences:
        console.print(Text(difference_sentence(difference, evaluation.confidence)))


def print_data_estimates(found: Iterable[DataEstimate]) -> bool:
    """Prints what a study has to extract, as soon as it is known; returns whether anything is."""
    console, left = output(), 0
    for store in found:
        line = f"{store.store}: {store.left} of {store.clips} clips left"
        if store.problem:
            line += f"; cannot be made: {store.problem}"
        elif store.left:
            line += f"; about {duration(store.seconds)} of one process, {store.size_mb:,.0f} MB"
        console.print(line, markup=False, highlight=False)
        left += store.left
    return bool(left)


def print_estimates(estimates: Iterable[Estimate], workers: int | None) -> None:
    """Prints what a study has to train, a line as soon as it is known, and how long it may take."""
    console = output()
    total_s, left, known = 0.0, 0, True
    for estimate in estimates:
        line = ", ".join(dict.fromkeys(estimate.variants))
        if estimate.problem:
            line += f": cannot be trained: {estimate.problem}"
        elif not estimate.left:
            line += f": {counted(estimate.tasks, 'model')}, all trained"
        else:
            source = "the models before" if estimate.measured else "a few batches"
            line += f": {estimate.left} of {counted(estimate.tasks, 'model')} to train, "
            line += f"about {duration(estimate.seconds)} each, going by {source}"
            left += estimate.left
            total_s += estimate.left * estimate.seconds
        known &= not estimate.problem
        console.print(line, markup=False, highlight=False)
    at_a_time = max(1, usable_cores() if workers is None else workers)
    rest = "" if known else "; without those that cannot be trained"
    if left:
        together = f"{counted(left, 'model')} in about {duration(total_s / at_a_time)}"
        console.print(f"Together {together}, {at_a_time} at a time{rest}.", highlight=False)
    elif known:
        console.print("Nothing is left to train.")


def print_study(results: StudyResults) -> None:
    """Prints the first metric of a study, and what became of its hypotheses."""
    from rich.text import Text

    from vavl.evaluation.wording import measure_name, p_value, signed, with_spread
    from vavl.studies.tables import verdict_sentence

    console = output()
    measure = results.study.metrics[0]
    table = Table(box=None)
    table.add_column("variant")
    columns = (f"{measure_name(measure)}\nmean ± SD over folds", "minus reference", "p (Holm)")
    for name in columns:
        table.add_column(Text(name), justify="right")
    for variant in results.variants:
        score, comparison = variant.scores[measure], variant.comparisons.get(measure)
        cells = [with_spread(score.fold_mean, score.fold_std)]
        if comparison is not None:
            cells += [signed(comparison.difference), p_value(comparison.p_adjusted)]
        table.add_row(Text(variant.name), *map(Text, cells))
    console.print(table)
    for name, why in results.incomplete.items():
        console.print(Text(f"not complete: {name}: {why}"))
    for result in results.hypotheses:
        console.print(Text(verdict_sentence(result, results.study.reference)))
