"""What came out of a study: scores and comparisons of the variants, and the fate of each claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vavl.data.manifest import Manifest
from vavl.errors import InputError
from vavl.evaluation.bootstrap import CONFIDENCE
from vavl.evaluation.compare import (
    Comparison,
    Predicted,
    adjusted,
    compare,
    fold_scores,
    mean_test_share,
    predicted,
    variant_scores,
)
from vavl.evaluation.diagnosis import Diagnosis, diagnose
from vavl.evaluation.evaluate import load_predictions
from vavl.evaluation.scores import Score
from vavl.evaluation.views import View
from vavl.studies.config import HypothesisConfig, StudyConfig
from vavl.studies.plan import Plan, Task, Variant
from vavl.studies.run import is_done, made_with

LEVEL = 1 - CONFIDENCE
"""Level of the tests."""


class Verdict(StrEnum):
    """What became of a claim."""

    CONFIRMED = "confirmed"
    LIKELY = "likely"
    OPEN = "open"
    UNLIKELY = "unlikely"
    REFUTED = "refuted"
    SAME = "the same predictions"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class VariantResult:
    """Scores of a variant that is trained and predicted on all folds and seeds.

    Attributes:
        name: As in the study's file.
        about: What is different.
        view: The prediction that was scored.
        scores: By measure.
        comparisons: With the reference, by measure, p-values adjusted over the variants; empty for
            the reference, by whatever name.
        by_seed: Measure to ``(seed, fold)`` to the score of that one model.
    """

    name: str
    about: str
    view: View
    scores: Mapping[str, Score]
    comparisons: Mapping[str, Comparison]
    by_seed: Mapping[str, Mapping[tuple[str, str], float]]


@dataclass(frozen=True)
class HypothesisResult:
    """A claim, the comparison that decides on it, and the verdict.

    Attributes:
        hypothesis: The claim.
        comparison: p-values adjusted over the hypotheses; None where a variant is not there.
        verdict: See :class:`vavl.studies.config.HypothesisConfig`.
    """

    hypothesis: HypothesisConfig
    comparison: Comparison | None
    verdict: Verdict


@dataclass(frozen=True)
class StudyResults:
    """Everything that is reported.

    Attributes:
        study: What was asked.
        variants: Those that are complete.
        incomplete: The others, with the reason: models that are missing, or a view that is.
        hypotheses: All of them.
        folds: Their names.
        clips: How many are tested in all folds.
        speakers: How many speak in them.
        models: How many the study trains.
        changes: How the analysis was changed since the study was begun.
        made_with: What the models were trained with.
        diagnosis: Of the reference; None where it is incomplete.
    """

    study: StudyConfig
    variants: tuple[VariantResult, ...]
    incomplete: Mapping[str, str]
    hypotheses: tuple[HypothesisResult, ...]
    folds: tuple[str, ...]
    clips: int
    speakers: int
    models: int
    changes: tuple[str, ...]
    made_with: tuple[str, ...]
    diagnosis: Diagnosis | None = None

    def variant(self, name: str) -> VariantResult | None:
        """A complete variant by name; None where it is incomplete."""
        return next((variant for variant in self.variants if variant.name == name), None)


def collect(
    plan: Plan, failures: Sequence[tuple[Task, str]], changes: Sequence[str]
) -> StudyResults:
    """Scores and compares the variants that have all their folds and seeds.

    Scores over different folds or seeds would not be comparable.

    Args:
        plan: The study.
        failures: Tasks that failed, with the reason.
        changes: How the analysis was changed since the study was begun.

    Raises:
        InputError: Variants that cannot be compared, e.g. of other categories.
    """
    study = plan.study
    found: dict[str, Predicted] = {}
    incomplete: dict[str, str] = {}
    for name, variant in plan.variants.items():
        tasks = plan.tasks_of(variant)
        left = [task for task in tasks if not is_done(task)]
        if left:
            reasons = [reason for task, reason in failures if name in task.variants]
            why = f": {reasons[0]}" if reasons else ""
            incomplete[name] = f"{len(left)} of {len(tasks)} models are missing{why}"
            continue
        try:
            found[name] = _predicted(variant, tasks)
        except InputError as error:  # e.g. a view that its models do not have
            incomplete[name] = str(error)

    def compared(names: tuple[str, str], measure: str, margin: float = 0.0) -> Comparison:
        return compare(
            names,
            found[names[0]],
            found[names[1]],
            measure,
            test_share=mean_test_share(plan.partitions),
            replicates=study.replicates,
            margin=margin,
        )

    comparisons = _comparisons(plan, found, compared)
    results = [
        VariantResult(
            name,
            plan.variants[name].about,
            variant.view,
            variant_scores(variant, study.metrics, replicates=study.replicates),
            {m: c for m, family in comparisons.items() if (c := family.get(name))},
            {measure: fold_scores(variant, measure) for measure in study.metrics},
        )
        for name, variant in found.items()
    ]
    return StudyResults(
        study,
        tuple(results),
        incomplete,
        _hypotheses(study, found, compared),
        tuple(plan.partitions),
        clips=sum(len(partition.test) for partition in plan.partitions.values()),
        speakers=len({s for p in found.values() for s in p.tables[0].speakers}),
        models=len(plan.tasks),
        changes=tuple(changes),
        made_with=tuple(made_with(plan)),
        diagnosis=_diagnosis(plan, found),
    )


def _predicted(variant: Variant, tasks: Sequence[Task]) -> Predicted:
    """The predictions of all models under all draws of the condition; draws count like seeds."""
    draws = len(variant.conditions)
    tables, labels = [], []
    for task in tasks:
        for draw, condition in enumerate(variant.conditions):
            seed = str(task.experiment.training.seed)
            tables.append(load_predictions(task.directory, condition))
            labels.append(f"{seed}/{draw}" if draws > 1 else seed)
    return predicted(tables, labels, variant.view)


def _comparisons(
    plan: Plan, found: Mapping[str, Predicted], compared: Callable[..., Comparison]
) -> dict[str, dict[str, Comparison]]:
    """Measure to variant to its comparison with the reference."""
    study = plan.study
    if study.reference not in found:
        return {}
    reference = plan.variants[study.reference]
    others = [name for name in found if not plan.variants[name].same_predictions(reference)]
    families = {}
    for measure in study.metrics:
        family = [compared((name, study.reference), measure) for name in others]
        families[measure] = {c.variant: c for c in adjusted(family)}
    return families


def _hypotheses(
    study: StudyConfig, found: Mapping[str, Predicted], compared: Callable[..., Comparison]
) -> tuple[HypothesisResult, ...]:
    family: dict[int, Comparison] = {}
    for number, hypothesis in enumerate(study.hypotheses):
        names = hypothesis.variant, hypothesis.against or study.reference
        if set(names) <= set(found):
            measure = hypothesis.metric or study.metrics[0]
            family[number] = compared(names, measure, hypothesis.margin)
    family = dict(zip(family, adjusted([*family.values()]), strict=True))
    return tuple(
        HypothesisResult(hypothesis, family.get(number), verdict(hypothesis, family.get(number)))
        for number, hypothesis in enumerate(study.hypotheses)
    )


def verdict(hypothesis: HypothesisConfig, comparison: Comparison | None) -> Verdict:
    """Whether a comparison confirms a claim."""
    if comparison is None:
        return Verdict.NOT_RUN
    if comparison.same:
        return Verdict.SAME
    if not comparison.p_adjusted < LEVEL:
        return Verdict.OPEN
    as_claimed = (comparison.difference.estimate > hypothesis.margin) == hypothesis.above
    if comparison.test_adjusted < LEVEL:
        return Verdict.CONFIRMED if as_claimed else Verdict.REFUTED
    return Verdict.LIKELY if as_claimed else Verdict.UNLIKELY


def _diagnosis(plan: Plan, found: Mapping[str, Predicted]) -> Diagnosis | None:
    name = plan.study.reference
    if name not in found:
        return None
    tasks = [task for task in plan.tasks_of(plan.variants[name]) if task.on_training]
    tables = [load_predictions(task.directory, split="train") for task in tasks]
    return diagnose(
        found[name],
        predicted(tables, [plan.study.seeds[0]] * len(tables), found[name].view),
        Manifest.load(tasks[0].experiment.data.manifest),
        plan.study.metrics[0],
        replicates=plan.study.replicates,
    )
