"""Commands of research: train, evaluate, compare."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from vavl.cli.commands import arg
from vavl.errors import EXIT_OK, EXIT_PARTIAL, InputError

Assignments = Annotated[tuple[tuple[str, ...], ...], arg(metavar="KEY=VALUE", repeated=True)]
"""``--set a=1 b=2``, any number of times."""


def train(
    config: Path,
    /,
    set: Assignments = (),
    folds: tuple[str, ...] = (),
    final: bool = False,
    overwrite: bool = False,
    engine: Literal["local", "ray"] = "local",
    workers: int = 1,
    *,
    keys: Mapping[str, str],
) -> int:
    """Train the folds of an experiment; run again to resume.

    Every key of the configuration is an option, which wins over the file: --training.epochs 5, or
    --epochs 5 where the last word is enough. With eight processes on one machine:
    `torchrun --standalone --nproc-per-node 8 -m vavl train CONFIG`; on a cluster: --engine ray
    --workers 32. The result is that of one process, see docs/scaling.md.

    Args:
        config: Experiment: a TOML file, as `vavl init` writes one, or the name of one that comes
            with vavl: folder, ravdess, crema_d, msp_improv, cmu_mosei, synthetic.
        set: The same options as KEY=VALUE.
        folds: Names of the folds to train, e.g. fold-0; by default all.
        final: Train one more model, on the speakers of all folds, once these are finished: for as
            many epochs as is the median of those that they chose. It is RUN/final, and what
            `--model RUN` loads then.
        overwrite: Begin anew where there is a run of that name: its models and scores are removed,
            nothing else in its folder. Run again without this option to resume.
        engine: local, or ray: on the cluster that RAY_ADDRESS names, or else on this machine
            (needs vavl[ray]).
        workers: With ray: processes that train together, each with a GPU where there are any.
        keys: Keys of the configuration that are given as options.
    """
    from vavl.cli.display import Output
    from vavl.cli.options import parse_assignments, parse_values
    from vavl.cli.progress import TrainingDisplay
    from vavl.config.experiment import load_experiment
    from vavl.distributed import is_first
    from vavl.training.experiment import train_experiment
    from vavl.training.ray import train_on_ray

    if engine == "local" and workers != 1:
        raise InputError(
            f"--workers: expected --engine ray beside it, got {workers} workers without; on this "
            f"machine: torchrun --standalone --nproc-per-node {workers} -m vavl train ..."
        )
    if engine == "ray" and "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError(
            "torchrun: expected --engine local, got --engine ray: each of its processes would "
            "start all workers, and they write to the same files; run it once, without torchrun"
        )
    overrides = parse_assignments(chain.from_iterable(set)) | parse_values(keys)
    experiment = load_experiment(config, overrides)
    # A notebook asks for colours (FORCE_COLOR), and shows each state of a bar below the last one.
    console = Output(quiet=not is_first(), force_terminal=sys.stdout.isatty())
    training = train_experiment if engine == "local" else partial(train_on_ray, workers=workers)
    run = experiment.run_dir
    with TrainingDisplay(console) as display:
        training(experiment, only=folds, final=final, overwrite=overwrite, on_fold=display.begin)
    if is_first():
        from vavl.evaluation.card import write_cards  # imports matplotlib: not while training

        write_cards(run)
    next_command = f"vavl predict CLIP --model {run}" if final else f"vavl evaluate {run}"
    console.print(f"Run: {run}\nNext: {next_command}", soft_wrap=True)
    return EXIT_OK


def init(what: str = "folder", /, out: Path | None = None) -> int:
    """Write a commented experiment file to start from; it names the commands that come next.

    Args:
        what: folder (your own clips), or one for a corpus: ravdess, crema_d, msp_improv, cmu_mosei,
            synthetic.
        out: The file, by default WHAT.toml. One that is there stays as it is.
    """
    from vavl.config.base import unknown_name
    from vavl.config.shipped import commands_of, find_shipped, shipped

    source = find_shipped(what, "experiments")
    if source is None:
        raise InputError(unknown_name("WHAT", what, shipped("experiments")))
    path = Path(f"{what}.toml") if out is None else out
    text = source.read_text(encoding="utf-8").replace(
        f"vavl train {source.stem}", f"vavl train {path}"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(
            f"--out: expected a new file, got {path}, which is there; name another"
        ) from None
    print(f"Experiment: {path}\nNext:", *commands_of(text), sep="\n  ")
    return EXIT_OK


def keys(words: tuple[str, ...] = (), /, format: Literal["text", "markdown"] = "text") -> int:
    """List the keys of an experiment file, with their meanings and defaults.

    Each is also an option of `vavl train`: training.epochs = 5 in the file is --training.epochs 5,
    or --epochs 5 where the last word is enough.

    Args:
        words: Show the keys alone in which, or in whose meaning, all of these words stand, e.g.
            learning rate.
        format: markdown makes a table for each section.
    """
    from vavl.cli.commands import Option, section
    from vavl.cli.options import keys_as_markdown, keys_by_table

    tables = keys_by_table(words)
    if not tables:
        raise InputError(
            f"WORD: expected words that stand in a key or its meaning, got {' '.join(words)!r}; "
            "`vavl keys` lists all keys"
        )
    if format == "markdown":
        print(keys_as_markdown(tables), end="")
        return EXIT_OK
    parts = []
    for table, listed in tables.items():
        rows = [
            Option((name.rpartition(".")[2],), key.kind, key.meaning)
            for name, key in listed.items()
        ]
        parts.append(section(f"[{table}]" if table else "At the top of the file", rows))
    print("\n\n".join(parts))
    return EXIT_OK


def evaluate(
    runs: tuple[Path, ...],
    /,
    out: Path | None = None,
    replicates: int = 2000,
    seed: int = 0,
    average_variants: bool = False,
    by: tuple[str, ...] = (),
) -> int:
    """Score runs on their test folds, with intervals, and write a report.

    Runs that differ only in their seed are averaged. Written are report.html, scores.json,
    scores.csv and scores.md; the scores of a single run also go into its model card, README.md.

    Args:
        runs: Run folders, as written by `vavl train`, or single folds of them.
        out: Where the report goes; by default RUN/evaluation of the first run, or
            RUN/evaluation-variants.
        replicates: Bootstrap resamples (of speakers).
        seed: Seed of the resamples.
        average_variants: Average the predictions of each clip over all of its
            data.acoustic_variants, e.g. over several speeds, at the cost of extracting them all.
        by: Score groups as well: a column of the utterance table, such as sex, intensity or
            category, or several.
    """
    from vavl.cli.display import Output, print_scores
    from vavl.config.experiment import to_toml
    from vavl.evaluation.card import write_cards
    from vavl.evaluation.evaluate import evaluate_runs, run_config
    from vavl.evaluation.report import write_report
    from vavl.training.run_folder import CONFIGURATION_FILE

    if not runs:
        raise InputError("RUN: expected at least one run folder, got none")
    out = out or runs[0] / ("evaluation-variants" if average_variants else "evaluation")
    scores = evaluate_runs(
        runs, replicates=replicates, seed=seed, average_variants=average_variants, by=by
    )
    print_scores(scores.evaluation, Output())
    report = write_report(
        scores.evaluation,
        scores.tables,
        out,
        histories=scores.histories,
        config_text=to_toml(run_config(runs[0])),
        title=", ".join(dict.fromkeys(run.name for run in runs)),
    )
    if len(runs) == 1 and not average_variants and (runs[0] / CONFIGURATION_FILE).is_file():
        write_cards(runs[0], scores.evaluation)
    print(f"Report: {report}")
    return EXIT_OK


def study(
    file: Path,
    /,
    root: Path | None = None,
    out: Path = Path("studies"),
    workers: int | None = None,
    seeds: tuple[int, ...] = (),
    dry_run: bool = False,
    set: Assignments = (),
) -> int:
    """Compare variants of an experiment on the same folds and seeds; run again to resume.

    A study file (TOML) names a base experiment and its variants, each a few overrides:

        name = "residual"
        base = "ravdess"        # comes with vavl; or a file beside this one
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

    docs/studies.md explains it all. Each variant is trained for each fold
    and seed, as many at a time as there are workers, on one thread each. Written to OUT/NAME are
    results.md, .tex and .csv with scores, paired comparisons and the verdict on each hypothesis,
    folds.csv with the score of every model, and pictures. Variants that differ in nothing but how
    a prediction is read share their models. A model that fails is recorded, the others go on, and
    the same command tries it again.

    Args:
        file: The study: a TOML file, or the name of one that comes with vavl, e.g. ablation,
            ravdess, paper-crema-d.
        root: Your copy of the corpus: the utterance table and the features are made from it first,
            as far as they are not there, where the study says how.
        out: Folder that holds studies.
        workers: Models that are trained at a time; by default one per CPU core.
        seeds: Seeds instead of the study's own, e.g. 0 for a first look.
        dry_run: List what would be extracted from ROOT and trained, how long it may take and how
            much disk; a few clips and batches are tried, and nothing is written.
        set: Overrides of the base experiment for all variants, as KEY=VALUE, e.g.
            data.manifest=corpus/manifest.parquet.
    """
    from vavl.cli.display import print_data_estimates, print_estimates, print_study
    from vavl.cli.options import parse_assignments
    from vavl.studies.config import load_study
    from vavl.studies.plan import make_plan
    from vavl.studies.probe import probe_data
    from vavl.studies.results import collect
    from vavl.studies.run import begin, estimates, prepare_data, run_tasks
    from vavl.studies.tables import write_study

    loaded = load_study(file, parse_assignments(chain.from_iterable(set)), seeds)
    if root is not None and dry_run and print_data_estimates(probe_data(loaded, root)):
        print("Training: the same command says how long it takes, once the features are there.")
        return EXIT_OK
    if root is not None and not dry_run and prepare_data(loaded, root, workers=workers or 0):
        print("Some clips have no features: see failures.csv in the stores", file=sys.stderr)
    plan = make_plan(loaded, out)
    if dry_run:
        print_estimates(estimates(plan), workers)
        return EXIT_OK
    changes = begin(plan)
    failures = run_tasks(plan, workers=workers)
    results = collect(plan, failures, changes)
    report = write_study(results, plan.folder)
    print_study(results)
    for task, reason in failures:
        print(f"failed: {task.name}: {reason}", file=sys.stderr)
    print(f"Report: {report}")
    return EXIT_PARTIAL if results.incomplete else EXIT_OK
