"""The bundled model `compact`, from data to scored weights: voices of three corpora, and faces.

    python scripts/train_compact.py DATA_FOLDER --ship

DATA_FOLDER holds ``ravdess``, ``speech`` and ``faces``. The model is linear: a logistic regression
of what whisper-base hears in the speech of a clip, the classifier of compact-face on the mean of
what it sees, and the weighted product of both. Nobody is both heard and seen in this data.

The actors of fold 0 of RAVDESS and the test split of the faces are held out from everything but the
last scores. Every choice about voices is made by leaving one corpus out (``--choose`` scores the
choices, and takes long); temperatures are fitted on voices of the corpus that was left out and on
validation faces, the weights of both on these and on left out actors of RAVDESS. Writes the model
to --out, and with --ship into the package.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from compact_face_data import CONTEMPT, VotedFaces, load_split
from compact_voices import CORPORA, HEARINGS, HELD_OUT, Voices, load_sounds, load_voices
from numpy.typing import NDArray
from torch import Tensor

from vavl.config.baselines import LinearConfig
from vavl.data.speakers import PRIOR_CLIPS
from vavl.evaluation.bootstrap import percentile_interval, speaker_weights
from vavl.features.compact_face import CLASSES, CompactFaceFeatures, pretrained
from vavl.features.registry import build_extractor
from vavl.metrics import accuracy, confusion_matrix, risk_coverage, uar
from vavl.models.baselines.linear import Linear
from vavl.models.pretrained import (
    Calibration,
    write_calibration,
    write_features,
    write_model,
)
from vavl.models.statistics import StatisticsHead
from vavl.system.processes import usable_cores
from vavl.types import FeatureSpec, Modality

sys.path.append(str(Path(__file__).parents[1] / "research"))
from calibration import expected_calibration_error, fit_temperature

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

PACKAGE = Path(__file__).parents[1] / "src" / "vavl" / "inference" / "assets" / "compact"
FEATURES: dict[Modality, tuple[str, dict[str, Any]]] = {
    Modality.ACOUSTIC: ("whisper-base", {"speech_only": True}),
    Modality.VISUAL: (
        "compact-face",
        {"readable_only": True, "evidence_only": True, "by_looks": True},
    ),
}
"""Extractors and their parameters."""
THRESHOLD = 0.4
"""A prediction of less confidence is called unsure."""
PAIRINGS = 20
DEVELOPMENT = 1
"""The fold of RAVDESS on whose actors sound is weighed against the face."""
COMMON = tuple(CLASSES.index(name) for name in ("angry", "happy", "neutral", "sad"))
"""The four classes that corpora of acted speech have in common."""
_POSSIBLE = {
    "ravdess": CLASSES,
    "nemo": tuple(name for name in CLASSES if name != "disgust"),
    "crema_d": ("happy", "sad"),
}
"""What a clip of each corpus can be: nothing is learned about other classes from it."""


# --- voices ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choices:
    """What was chosen by leaving one corpus out.

    Attributes:
        strength: Of the penalty on large weights.
        hearings: Those of which it learns.
        known: Share of the weight that is on hearings moved by the statistics of their speaker, so
            that the model fits speakers who are known as well as strangers.
        weights: Of the corpora.
        sounds: Share of the weight that is on sounds that are no words.
    """

    strength: float = 0.1
    hearings: tuple[str, ...] = HEARINGS
    known: float = 0.8
    sounds: float = 0.05
    weights: Mapping[str, float] = field(
        default_factory=lambda: {"ravdess": 1.0, "nemo": 1.0, "crema_d": 1.0}
    )


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation ``(D,)`` of features over time, of some clips."""

    mean: Floats
    std: Floats

    @classmethod
    def of(cls, clips: Floats) -> Statistics:
        """Of clips ``(n, 2 D)``, each of which counts once."""
        mean, std = np.split(clips.astype(np.float64), 2, axis=1)
        center = mean.mean(axis=0)
        variance = (np.square(std) + np.square(mean)).mean(axis=0) - np.square(center)
        return cls(center, np.sqrt(variance))

    def shrunk(self, clips: float, prior: Statistics) -> Statistics:
        """As :func:`vavl.data.speakers.towards_training` shrinks them to those of training."""
        share = clips / (clips + PRIOR_CLIPS)
        apart = np.square(self.mean - prior.mean)
        variance = (
            share * np.square(self.std)
            + (1 - share) * np.square(prior.std)
            + share * (1 - share) * apart
        )
        return Statistics(share * self.mean + (1 - share) * prior.mean, np.sqrt(variance))

    def normalised(self, clips: Floats) -> Floats:
        """Clips ``(n, 2 D)`` whose features have these statistics, moved to mean 0, deviation 1."""
        mean, std = np.split(clips, 2, axis=1)
        scale = np.where(self.std > 1e-6, 1 / np.maximum(self.std, 1e-6), 1)
        moved = np.concatenate([(mean - self.mean) * scale, std * scale], axis=1)
        return moved.astype(np.float32)


def strangers(voices: Voices, training: Statistics, hearing: int = 0) -> Floats:
    """A hearing of each clip, normalised by the training speakers alone; NaN where none is."""
    return training.normalised(voices.statistics[:, hearing].astype(np.float32))


def known(
    voices: Voices, training: Statistics, hearing: int = 0, *, others: bool = False
) -> Floats:
    """The same, normalised by the clips of each speaker, heard as they are.

    Args:
        voices: Clips.
        training: Statistics of the training speakers.
        hearing: Which one.
        others: Leave the clip itself out: what is known is the speaker's other clips.
    """
    clips = voices.statistics[:, 0].astype(np.float32)
    moved = np.full_like(clips, np.nan)
    heard = np.isfinite(clips[:, 0])
    for speaker in np.unique(voices.speakers):
        of_speaker = voices.speakers == speaker
        rows = np.flatnonzero(of_speaker)
        if not others:
            groups = [(rows, rows[heard[rows]])]
        else:
            groups = [(rows[rows == row], rows[heard[rows] & (rows != row)]) for row in rows]
        for targets, sources in groups:
            statistics = Statistics.of(clips[sources]).shrunk(len(sources), training)
            shown = voices.statistics[targets, hearing].astype(np.float32)
            moved[targets] = statistics.normalised(shown)
    return moved


def voice_head(
    voices: Voices, training: Statistics, choices: Choices, sounds: Floats
) -> StatisticsHead:
    """The logistic regression of what is heard, classes and corpora balanced.

    Of sounds that are no words ``(n, 2 D)`` it learns to be unsure: all classes are as probable.
    """
    parts = []
    for hearing in map(HEARINGS.index, choices.hearings):
        parts.append((strangers(voices, training, hearing), 1 - choices.known))
        if choices.known:
            parts.append((known(voices, training, hearing), choices.known))
    clips = np.concatenate([part for part, _ in parts])
    rows = np.tile(np.arange(len(voices.labels)), len(parts))
    share = np.repeat([weight for _, weight in parts], len(voices.labels))
    heard = np.isfinite(clips[:, 0])
    clips, rows, share = clips[heard], rows[heard], share[heard]
    labels, corpora = voices.labels[rows], voices.corpora[rows]
    weights = np.zeros(len(rows))
    for corpus in np.unique(corpora):
        of_corpus = corpora == corpus
        for label in np.unique(labels[of_corpus]):
            of_class = of_corpus & (labels == label)
            classes = len(_POSSIBLE[corpus])
            weights[of_class] = choices.weights[corpus] * share[of_class] / share[of_class].sum()
            weights[of_class] /= classes
    unsure = np.full((len(sounds), len(CLASSES)), 1 / len(CLASSES), np.float32)
    targets = np.concatenate([np.eye(len(CLASSES), dtype=np.float32)[labels], unsure])
    shares = np.full(len(sounds), choices.sounds / len(sounds))
    allowed = np.concatenate(
        [np.stack([possible(corpus) for corpus in corpora]), np.ones_like(unsure, bool)]
    )
    return logistic_regression(
        torch.from_numpy(np.concatenate([clips, training.normalised(sounds)])),
        torch.from_numpy(targets),
        torch.from_numpy(
            np.concatenate([(1 - choices.sounds) * weights / weights.sum(), shares])
        ).float(),
        torch.from_numpy(allowed),
        choices.strength,
    )


@cache
def possible(corpus: str) -> NDArray[np.bool_]:
    """``(7,)`` what a clip of a corpus can be."""
    return np.isin(CLASSES, _POSSIBLE[corpus])


def logistic_regression(
    statistics: Tensor, targets: Tensor, weights: Tensor, allowed: Tensor, strength: float
) -> StatisticsHead:
    """Solves for a head.

    Args:
        statistics: ``(n, 2 D)``.
        targets: ``(n, 7)`` probabilities.
        weights: ``(n,)`` of the losses; their sum is 1.
        allowed: ``(n, 7)`` classes that a clip can be.
        strength: By which half the sum of the squared weights of scaled inputs is multiplied.
    """
    head = StatisticsHead(statistics.shape[1] // 2, len(CLASSES))
    barred = torch.where(allowed, 0.0, -1e9)  # infinity times a target of 0 is no number

    def add_task_loss(penalty: Tensor, outputs: Tensor, places: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs + barred[places], targets[places], reduction="none")
        return penalty + weights[places] @ losses

    everything = torch.arange(len(targets))
    head.fit(statistics, everything, add_task_loss, 1 / (strength * len(targets)))
    return head


@dataclass(frozen=True)
class Heard:
    """What a voice model says of clips.

    Attributes:
        voices: The clips.
        logits: ``(n, 7)`` for a stranger; NaN where no speech was found.
        known: ``(n, 7)`` with the speaker's other clips known.
    """

    voices: Voices
    logits: Floats
    known: Floats

    @classmethod
    def by(cls, head: StatisticsHead, training: Statistics, voices: Voices) -> Heard:
        """Applies a head."""
        with torch.inference_mode():
            logits, with_others = (
                head(torch.from_numpy(clips)).numpy()
                for clips in (
                    strangers(voices, training),
                    known(voices, training, others=True),
                )
            )
        return cls(voices, logits, with_others)


def training_statistics(voices: Voices) -> Statistics:
    """Statistics of the clips as they are, each corpus counting once."""
    parts = [voices.at(voices.corpora == corpus) for corpus in np.unique(voices.corpora)]
    each = [Statistics.of(finite(part.statistics[:, 0])) for part in parts]
    mean = np.mean([one.mean for one in each], axis=0)
    second = np.mean([np.square(one.std) + np.square(one.mean) for one in each], axis=0)
    return Statistics(mean, np.sqrt(second - np.square(mean)))


def finite(clips: NDArray[np.float16]) -> Floats:
    """The clips ``(n, 2 D)`` in which speech was found."""
    return clips[np.isfinite(clips[:, 0])].astype(np.float32)


def said_of(voices: Voices, left_out: NDArray[np.bool_], choices: Choices, sounds: Floats) -> Heard:
    """What a model of all other voices says of those that are left out, ``(n,)`` True."""
    others = voices.at(~left_out)
    training = training_statistics(others)
    head = voice_head(others, training, choices, sounds)
    return Heard.by(head, training, voices.at(left_out))


def of_each_corpus(voices: Voices, choices: Choices, sounds: Floats) -> dict[str, Heard]:
    """What the model of the other corpora says of each corpus."""
    return {
        corpus: said_of(voices, voices.corpora == corpus, choices, sounds) for corpus in CORPORA
    }


def on_development_actors(voices: Voices, choices: Choices, sounds: Floats) -> dict[str, float]:
    """UAR of left out actors of a known corpus, in each hearing, and what a missed part changes."""
    left_out = voices.folds == DEVELOPMENT
    others, actors = voices.at(~left_out), voices.at(left_out)
    training = training_statistics(others)
    head = voice_head(others, training, choices, sounds)
    with torch.inference_mode():
        logits = [
            head(torch.from_numpy(strangers(actors, training, number))).numpy()
            for number in range(len(HEARINGS))
        ]
    found = {
        way: round(uar(actors.labels, answers(said, actors.labels, range(len(CLASSES)))), 4)
        for way, said in zip(HEARINGS, logits, strict=True)
    }
    clean, missed = (
        probabilities(logits[HEARINGS.index(w)]) for w in ("as it is", "partly missed")
    )
    moves = np.abs(clean - missed).max(axis=1)
    return found | {"largest move by a missed part, mean": round(float(np.nanmean(moves)), 4)}


def learned_without(corpus: str) -> NDArray[np.bool_]:
    """``(7,)`` the classes that the other corpora have."""
    learned: NDArray[np.bool_] = np.any(
        [possible(other) for other in CORPORA if other != corpus], axis=0
    )
    return learned


# --- faces -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What compact-face says of faces on whose expression people agree.

    Attributes:
        labels: ``(n,)`` the majority of ten people.
        embeddings: ``(n, 256)``.
    """

    labels: Labels
    embeddings: Floats

    @classmethod
    def of(cls, faces: VotedFaces) -> Seen:
        """The faces of a split."""
        agreed = (faces.majority >= 0) & (faces.majority != CONTEMPT)
        return cls(faces.majority[agreed], CompactFaceFeatures().embed(faces.images[agreed]))


def face_head(training: VotedFaces, statistics: Statistics, flattening: float) -> StatisticsHead:
    """The classifier of compact-face, on embeddings with these statistics taken off.

    Args:
        training: Faces that it was trained on, for the shares of the classes.
        statistics: Of the embeddings.
        flattening: Exponent with which these shares are divided out: at 1 all classes are as
            probable beforehand, at 0 they are as frequent as in the training faces.
    """
    shares = training.votes[:, : len(CLASSES)].sum(axis=0)
    prior = torch.from_numpy(np.log(shares / shares.sum()))
    classifier = pretrained().classifier
    weight, bias = classifier.weight[: len(CLASSES)], classifier.bias[: len(CLASSES)]
    mean, std = (torch.from_numpy(part).float() for part in (statistics.mean, statistics.std))
    head = StatisticsHead(len(mean), len(CLASSES))
    with torch.no_grad():
        # A single picture has no deviation: nothing can be learned about that.
        head.weight.copy_(torch.cat([weight * std, torch.zeros_like(weight)], dim=1))
        head.bias.copy_(bias + weight @ mean - flattening * prior)
    return head


def seen_by(head: StatisticsHead, statistics: Statistics, embeddings: Floats) -> Floats:
    """Logits ``(n, 7)`` of single faces."""
    still = np.concatenate([embeddings, np.zeros_like(embeddings)], axis=1)
    with torch.inference_mode():
        logits: Floats = head(torch.from_numpy(statistics.normalised(still))).numpy()
    return logits


def chosen_flattening(training: VotedFaces, statistics: Statistics, validation: Seen) -> float:
    """The exponent with the best sum of accuracy and UAR on validation faces."""

    def both(flattening: float) -> float:
        head = face_head(training, statistics, flattening)
        guesses = seen_by(head, statistics, validation.embeddings).argmax(axis=1)
        return accuracy(validation.labels, guesses) + uar(validation.labels, guesses)

    return max((0.0, 0.25, 0.5, 0.75, 1.0), key=both)


# --- both together -----------------------------------------------------------------------------


def paired(labels: Labels, faces: Labels, random: np.random.Generator) -> Labels:
    """For each of these labels the place of a face with the same one."""
    places = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        wanted = labels == label
        places[wanted] = random.choice(np.flatnonzero(faces == label), wanted.sum())
    return places


def pool_weights(heard: Floats, seen: Floats, labels: Labels) -> Tensor:
    """The weights of sound and face with which pairs ``(n, 7)`` are most probable."""
    parts = torch.stack([torch.from_numpy(part) for part in (heard, seen)]).log_softmax(-1)
    weights = torch.ones(2, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        pooled = torch.einsum("m,mnc->nc", weights, parts)
        total = F.cross_entropy(pooled, torch.from_numpy(labels))
        total.backward()  # type: ignore[no-untyped-call]
        return total

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()


# --- scores ------------------------------------------------------------------------------------


def with_interval(
    truth: Labels, guesses: Labels, speakers: NDArray[np.str_], seed: int = 0
) -> dict[str, float]:
    """UAR with its interval over resampled speakers, of enough of them."""
    names, places = np.unique(speakers, return_inverse=True)
    each = np.stack(
        [
            confusion_matrix(truth[places == k], guesses[places == k], classes=len(CLASSES))
            for k in range(len(names))
        ]
    )
    drawn = np.einsum("rs,sij->rij", speaker_weights(len(names), 2000, (seed,)), each)
    totals = drawn.sum(axis=2)
    with np.errstate(invalid="ignore"):
        recalls = np.diagonal(drawn, axis1=1, axis2=2) / totals
    interval = percentile_interval(uar(truth, guesses), np.nanmean(recalls, axis=1), len(names))
    found = {"uar": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: round(value, 4) for name, value in found.items() if np.isfinite(value)}


def answers(logits: Floats, truth: Labels, classes: Sequence[int]) -> Labels:
    """The most probable of these classes; a wrong one where no speech was found."""
    chosen = np.asarray(classes)[np.nan_to_num(logits[:, list(classes)]).argmax(axis=1)]
    return np.where(np.isnan(logits[:, 0]), (truth + 1) % len(CLASSES), chosen)


def voice_scores(heard: Heard, classes: Sequence[int]) -> dict[str, Any]:
    """UAR of some classes for strangers and for known speakers, with intervals; by sex, too."""
    chosen = np.isin(heard.voices.labels, classes)
    voices = heard.voices.at(chosen)
    found: dict[str, Any] = {"clips": len(voices.labels)}
    for name, logits in (("strangers", heard.logits), ("known", heard.known)):
        guesses = answers(logits[chosen], voices.labels, classes)
        found[name] = with_interval(voices.labels, guesses, voices.speakers)
        found[name]["by sex"] = {
            str(sex): round(
                uar(voices.labels[voices.sexes == sex], guesses[voices.sexes == sex]), 4
            )
            for sex in np.unique(voices.sexes)
        }
    found["no speech found"] = int(np.isnan(heard.logits[:, 0]).sum())
    return found


def across_corpora(left_out: Mapping[str, Heard]) -> dict[str, Any]:
    """Scores of each corpus by the model of the others: the four common classes, and all."""
    scores: dict[str, Any] = {}
    for corpus, heard in left_out.items():
        learned = learned_without(corpus)
        every = np.flatnonzero(learned & possible(corpus))
        scores[corpus] = {"classes": [CLASSES[k] for k in every], **voice_scores(heard, every)}
        if set(COMMON) <= set(every):
            scores[corpus]["four classes"] = voice_scores(heard, COMMON)
    return scores


def mean_of_four(scores: Mapping[str, Any], who: str) -> float:
    """The mean over corpora of the UAR of the four common classes."""
    four = [
        found["four classes"][who]["uar"] for found in scores.values() if "four classes" in found
    ]
    return float(np.mean(four))


# --- everything --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unmet:
    """Predictions for people that the models did not learn from.

    Attributes:
        labels: ``(n,)``.
        heard: ``(n, 7)`` logits for voices.
    """

    labels: Labels
    heard: Floats

    @classmethod
    def of(cls, left_out: Mapping[str, Heard], random: np.random.Generator) -> Unmet:
        """As many clips of each class of what was left out: corpora with most of the classes."""
        labels, logits = [], []
        for corpus, heard in left_out.items():
            if corpus == "crema_d":
                continue
            learned = learned_without(corpus)
            usable = np.isfinite(heard.logits[:, 0]) & learned[heard.voices.labels]
            places = np.flatnonzero(usable)
            counts = np.bincount(heard.voices.labels[places], minlength=len(CLASSES))
            fewest = counts[counts > 0].min()
            drawn = np.concatenate(
                [
                    random.permutation(places[heard.voices.labels[places] == label])[:fewest]
                    for label in np.flatnonzero(counts)
                ]
            )
            labels.append(heard.voices.labels[drawn])
            # What was never heard of is as improbable as it can be.
            logits.append(
                np.where(learned, heard.logits[drawn], heard.logits[drawn].min(1)[:, None])
            )
        return cls(np.concatenate(labels), np.concatenate(logits))


def probabilities(logits: Floats) -> Floats:
    """Softmax over the classes."""
    return torch.from_numpy(logits).softmax(-1).numpy()


def confidence_scores(labels: Labels, shares: Floats, threshold: float) -> dict[str, float]:
    """How far the probabilities can be trusted, and what the threshold is worth."""
    sure = shares.max(axis=1) >= threshold
    right = shares.argmax(axis=1) == labels
    return {
        "clips": len(labels),
        "accuracy": round(float(right.mean()), 4),
        "uar": round(uar(labels, shares.argmax(axis=1)), 4),
        "ece": round(expected_calibration_error(labels, shares), 4),
        "area under risk and coverage": round(risk_coverage(labels, shares).aurc, 4),
        "sure": round(float(sure.mean()), 4),
        "accuracy where sure": round(float(right[sure].mean()), 4),
    }


@dataclass(frozen=True)
class Data:
    """Everything that the model is made from and scored on; nothing of ``test`` is learned from."""

    voices: Voices
    test_voices: Voices
    sounds: Floats
    faces: VotedFaces
    embeddings: Statistics
    validation: Seen
    test: Seen

    @classmethod
    def read(cls, folder: Path, work: Path, processes: int) -> Data:
        """Hears all voices and sees all faces; what was heard before is read again."""
        voices = Voices.joined([load_voices(corpus, folder, work, processes) for corpus in CORPORA])
        held_out = voices.folds == HELD_OUT
        faces = load_split(folder / "faces", "train")
        embeddings = CompactFaceFeatures().embed(faces.images)
        still = np.concatenate([embeddings, np.zeros_like(embeddings)], axis=1)
        return cls(
            voices.at(~held_out),
            voices.at(held_out),
            load_sounds(folder, work, processes).astype(np.float32),
            faces,
            Statistics.of(still),
            Seen.of(load_split(folder / "faces", "validation")),
            Seen.of(load_split(folder / "faces", "test")),
        )


@dataclass(frozen=True)
class Fitted:
    """A model, what its answers are worth, and the statistics of the voices behind it."""

    model: Linear
    calibration: Calibration
    voices: Statistics


def fit(data: Data, left_out: Mapping[str, Heard], choices: Choices, threshold: float) -> Fitted:
    """The model, calibrated on voices of corpora that were left out and on validation faces.

    What sound and face weigh is fitted on voices of left out actors of a known corpus as well: else
    the voice would count for little where it is worth most.
    """
    random = np.random.default_rng(0)
    training = training_statistics(data.voices)
    flattening = chosen_flattening(data.faces, data.embeddings, data.validation)
    print(f"flattening of the faces' classes: {flattening}", flush=True)
    faces = face_head(data.faces, data.embeddings, flattening)

    def seen_with(labels: Labels) -> Floats:
        partners = paired(labels, data.validation.labels, random)
        return seen_by(faces, data.embeddings, data.validation.embeddings[partners])

    unmet = Unmet.of(left_out, random)
    actors = said_of(data.voices, data.voices.folds == DEVELOPMENT, choices, data.sounds)
    known_corpus = Unmet.of({"actors": actors}, random)
    chosen = random.permutation(len(unmet.labels))[: len(known_corpus.labels)]  # as many of both
    labels = np.concatenate([unmet.labels[chosen], known_corpus.labels])
    heard = np.concatenate([unmet.heard[chosen], known_corpus.heard])
    weights = pool_weights(heard, seen_with(labels), labels)
    config = LinearConfig.preset(
        "small",
        acoustic_dim=len(training.mean),
        visual_dim=len(data.embeddings.mean),
        categories=CLASSES,
    )
    model = Linear(config)
    heads = {
        Modality.ACOUSTIC: (voice_head(data.voices, training, choices, data.sounds), training),
        Modality.VISUAL: (faces, data.embeddings),
    }
    for modality, (head, statistics) in heads.items():
        mean, std = (torch.from_numpy(part) for part in (statistics.mean, statistics.std))
        model.normalisation(modality).set_statistics(mean, std)
        model.head(modality).load_state_dict(head.state_dict())
    model.weights.data = weights
    temperatures = {
        Modality.ACOUSTIC: fit_temperature(unmet.labels, unmet.heard),
        Modality.VISUAL: fit_temperature(unmet.labels, seen_with(unmet.labels)),
    }
    return Fitted(model.eval(), Calibration(temperatures, threshold), training)


def score(fitted: Fitted, data: Data, left_out: Mapping[str, Heard]) -> dict[str, Any]:
    """What the model is worth: on people it never met, and on corpora that were left out."""
    model, temperatures = fitted.model, fitted.calibration.temperatures
    threshold = fitted.calibration.unsure_below
    voice, face = (model.head(m) for m in (Modality.ACOUSTIC, Modality.VISUAL))
    heard = Heard.by(voice, fitted.voices, data.test_voices)
    there = np.isfinite(heard.logits[:, 0])
    labels, logits = heard.voices.labels[there], heard.logits[there]
    seen = seen_by(face, data.embeddings, data.test.embeddings)
    pairings = []
    for seed in range(PAIRINGS):
        partners = paired(labels, data.test.labels, np.random.default_rng(seed))
        parts = torch.stack([torch.from_numpy(part) for part in (logits, seen[partners])])
        pooled = torch.einsum("m,mnc->nc", model.weights.detach(), parts.log_softmax(-1))
        pairings.append(confidence_scores(labels, probabilities(pooled.numpy()), threshold))
    unmet = Unmet.of(left_out, np.random.default_rng(0))

    def confidence(truth: Labels, outputs: Floats, modality: Modality) -> dict[str, float]:
        return confidence_scores(truth, probabilities(outputs / temperatures[modality]), threshold)

    return {
        "held-out actors": {
            **voice_scores(heard, range(len(CLASSES))),
            "confidence": confidence(labels, logits, Modality.ACOUSTIC),
            "confusion": confusion_matrix(
                labels, logits.argmax(axis=1), classes=len(CLASSES)
            ).tolist(),
        },
        "voices of corpora left out": confidence(unmet.labels, unmet.heard, Modality.ACOUSTIC),
        "held-out faces": {
            **confidence(data.test.labels, seen, Modality.VISUAL),
            "confusion": confusion_matrix(
                data.test.labels, seen.argmax(axis=1), classes=len(CLASSES)
            ).tolist(),
        },
        "composed pairs": {
            name: [
                round(float(function([pairing[name] for pairing in pairings])), 4)
                for function in (np.mean, np.std)
            ]
            for name in pairings[0]
        },
    }


def scored_choices(voices: Voices, sounds: Floats) -> dict[str, Any]:
    """What each choice is worth, one changed at a time."""
    chosen = Choices()
    tried = {
        "as chosen": chosen,
        "strength 0.03": replace(chosen, strength=0.03),
        "strength 0.3": replace(chosen, strength=0.3),
        "each clip as it is alone": replace(chosen, hearings=HEARINGS[:1]),
        **{
            f"never {way}": replace(chosen, hearings=tuple(set(HEARINGS) - {way}))
            for way in HEARINGS[1:]
        },
        "no known speakers": replace(chosen, known=0.0),
        "half of them known": replace(chosen, known=0.5),
        "known speakers alone": replace(chosen, known=1.0),
        "crema_d counts a third": replace(chosen, weights={**chosen.weights, "crema_d": 0.3}),
        "without crema_d": replace(chosen, weights={**chosen.weights, "crema_d": 1e-6}),
    }
    found = {}
    for name, choices in tried.items():
        scores = across_corpora(of_each_corpus(voices, choices, sounds))
        found[name] = {who: round(mean_of_four(scores, who), 4) for who in ("strangers", "known")}
        found[name] |= on_development_actors(voices, choices, sounds)
        print(name, found[name], flush=True)
    return found


def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with ravdess, speech and faces")
    parser.add_argument("--work", type=Path, default=Path("data/compact"), help="what can be kept")
    parser.add_argument("--out", type=Path, default=Path("runs/compact"))
    parser.add_argument("--processes", type=int, default=usable_cores())
    parser.add_argument("--choose", action="store_true", help="score the choices as well")
    parser.add_argument("--ship", action="store_true", help="copy the model into the package")
    options = parser.parse_args()
    data = Data.read(options.data, options.work, options.processes)
    left_out = of_each_corpus(data.voices, Choices(), data.sounds)
    scores: dict[str, Any] = {"corpora left out": across_corpora(left_out)}
    if options.choose:
        scores["choices"] = scored_choices(data.voices, data.sounds)
    fitted = fit(data, left_out, Choices(), THRESHOLD)
    specs: dict[Modality, FeatureSpec] = {
        modality: build_extractor(modality, name, **parameters).spec
        for modality, (name, parameters) in FEATURES.items()
    }
    state = {name: value.half() for name, value in fitted.model.state_dict().items()}
    write_model(options.out, fitted.model.config, state)
    # What is scored is what is shipped, rounding included.
    shipped = replace(fitted, model=Linear.from_pretrained(options.out))
    write_features(options.out, specs)
    write_calibration(options.out, fitted.calibration)
    scores |= score(shipped, data, left_out)
    scores["calibration"] = {str(m): t for m, t in fitted.calibration.temperatures.items()}
    scores["weights of sound and face"] = shipped.model.weights.tolist()
    (options.out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    print(json.dumps(scores))
    if options.ship:
        for name in ("config.json", "model.safetensors", "features.json", "calibration.json"):
            shutil.copy(options.out / name, PACKAGE / name)


if __name__ == "__main__":
    main()
