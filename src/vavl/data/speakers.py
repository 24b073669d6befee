"""Features normalised by the speaker: statistics of a person's unlabelled clips, and their file.

A profile is a safetensors file: the statistics as tensors, and in its header what they are about::

    acoustic.mean, acoustic.variance     (D,) float64, likewise visual
    header "profile"                     JSON: schema version, speaker, extractor and clips of each

It holds no sound, no picture and no label, but averages of features of a person: personal data.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vavl.data.manifest import Manifest
from vavl.data.store import FeatureStore, known_steps
from vavl.errors import InputError, StoreError, all_problems
from vavl.system.atomic import atomic_write, json_object
from vavl.types import STREAMS, FeatureSpec, Modality

PRIOR_CLIPS = 5.0
"""Clips that the training statistics count as when those of a speaker are shrunk to them."""

SequenceMap = Callable[[Modality, str, NDArray[np.floating]], NDArray[np.floating]]
"""``(modality, utterance id, (T, D))`` to the ``(T, D)`` that is read in its place."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance per dimension, and how many clips they stand for. ``+`` pools two of them.

    Attributes:
        clips: Weight, at least 0.
        mean: ``(D,)`` float64.
        variance: ``(D,)`` float64, not negative; of the steps within and between the clips.

    Example:
        >>> both = Moments.of_clip(np.array([[0.0], [2.0]])) + Moments.of_clip(np.array([[5.0]]))
        >>> both.clips, both.mean.tolist(), both.variance.tolist()
        (2.0, [3.0], [4.5])
    """

    clips: float
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @classmethod
    def of_clip(cls, frames: NDArray[np.floating]) -> Moments:
        """The moments of one clip ``(T, D)``; a row of NaN is a step that is not known.

        Raises:
            InputError: Another shape, no known step, or values that are not finite.
        """
        if frames.ndim != 2 or not frames.size:
            raise InputError(f"frames: expected (T, D) with T >= 1, got {frames.shape}")
        known = frames[known_steps(frames)].astype(np.float64)
        if not len(known) or not np.isfinite(known).all():
            raise InputError("frames: expected finite features, got NaN or infinity")
        return cls(1.0, known.mean(0), known.var(0))

    @property
    def std(self) -> NDArray[np.float64]:
        """``(D,)`` standard deviation."""
        return np.sqrt(self.variance)

    def __add__(self, other: Moments) -> Moments:
        clips = self.clips + other.clips
        if clips == 0:
            return self
        share = other.clips / clips
        apart = other.mean - self.mean
        return Moments(
            clips,
            self.mean + share * apart,
            (1 - share) * self.variance + share * other.variance + share * (1 - share) * apart**2,
        )


def pooled(clips: Iterable[Moments], dim: int) -> Moments:
    """The moments of some clips of ``dim`` dimensions together."""
    return sum(clips, start=Moments(0.0, np.zeros(dim), np.zeros(dim)))


def training_moments(
    mean: NDArray[np.floating], std: NDArray[np.floating], clips: float = PRIOR_CLIPS
) -> Moments:
    """The training statistics, mean and standard deviation ``(D,)``, as that many clips."""
    if not clips > 0:
        raise InputError(f"clips: expected a prior of more than 0 clips, got {clips}")
    return Moments(clips, mean.astype(np.float64), std.astype(np.float64) ** 2)


def towards_training(
    frames: NDArray[np.floating], speaker: Moments, training: Moments
) -> NDArray[np.float32]:
    """Features of a speaker, moved and scaled to where the training speakers' features lie.

    Args:
        frames: ``(T, D)`` as extracted; rows of NaN stay.
        speaker: Of the speaker's unlabelled clips; without any, nothing is changed.
        training: See :func:`training_moments`.

    Returns:
        ``(T, D)``: the shrunk statistics of the speaker are replaced by those of training, so that
        a model normalises them as it does its training speakers'.

    Example:
        >>> training = training_moments(np.zeros(1), np.ones(1))
        >>> ann = Moments(1e9, np.array([100.0]), np.array([4.0]))
        >>> towards_training(np.array([[100.0], [102.0]]), ann, training).round(3).tolist()
        [[0.0], [1.0]]
    """
    shrunk = speaker + training
    ratio = np.divide(training.std, shrunk.std, out=np.ones_like(shrunk.std), where=shrunk.std > 0)
    return ((frames - shrunk.mean) * ratio + training.mean).astype(np.float32)


SEEN_SPEAKERS = (
    "Has seen unlabelled clips of the test speakers (all of them, the scored ones among them), "
    "never labels: not to be compared with results without."
)
"""What every report says of results with normalisation by speaker."""


def speaker_moments(manifest: Manifest, store: FeatureStore) -> dict[str, Moments]:
    """The moments of all clips of each speaker that a store has."""
    clips: defaultdict[str, list[str]] = defaultdict(list)
    for utterance in manifest:
        if utterance.utterance_id in store:
            clips[utterance.speaker].append(utterance.utterance_id)
    return {
        speaker: pooled((Moments.of_clip(store.read(name)) for name in names), store.spec.dim)
        for speaker, names in clips.items()
    }


class SpeakerNormalisation:
    """Moves the clips of each speaker to where the training speakers' clips lie.

    A model that is trained this way is given, in the test too, all clips of a speaker before it
    predicts the first of them, though never a label: see :data:`SEEN_SPEAKERS`.

    Args:
        manifest: Says who speaks.
        speakers: By modality and speaker, see :func:`speaker_moments`.
        training: Training statistics by modality, with the weight of the prior; other modalities
            stay as they are.
    """

    def __init__(
        self,
        manifest: Manifest,
        speakers: Mapping[Modality, Mapping[str, Moments]],
        training: Mapping[Modality, Moments],
    ) -> None:
        self._speaker_of = {u.utterance_id: u.speaker for u in manifest}
        self._speakers = dict(speakers)
        self._training = dict(training)

    @classmethod
    def of_stores(
        cls,
        manifest: Manifest,
        stores: Mapping[Modality, FeatureStore],
        training: Mapping[Modality, Moments],
    ) -> Self:
        """By all clips of each speaker in the stores, of which no label is read.

        Other versions of the clips, e.g. at other speeds, are normalised by the same statistics.
        """
        return cls(manifest, {m: speaker_moments(manifest, stores[m]) for m in training}, training)

    def __call__(
        self, modality: Modality, utterance_id: str, frames: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """``(T, D)`` of one clip, normalised by its speaker; the clip is one of the manifest's."""
        if modality not in self._training:
            return frames
        speaker = self._speakers[modality][self._speaker_of[utterance_id]]
        return towards_training(frames, speaker, self._training[modality])


SCHEMA_VERSION = 1
"""Raised whenever a profile written before can no longer be read the same way."""

_HEADER = "profile"
_PARTS = ("mean", "variance")
_REMEDY = "make it again with `vavl enrol`"


@dataclass(frozen=True, eq=False)
class SpeakerProfile:
    """Statistics of a person's features; of no model, so that all with the same extractors use it.

    Attributes:
        speaker: Name of the person.
        moments: By modality; none where no clip had it.
        extractors: Modality to the key of the features (:attr:`vavl.types.FeatureSpec.key`), or
            None where it is not known how they were made.

    Example:
        >>> profile = SpeakerProfile("ann").with_clip({Modality.VISUAL: np.ones((1, 2))}, {})
        >>> profile = profile.with_clip({Modality.VISUAL: np.zeros((1, 2))}, {})
        >>> profile.clips(Modality.VISUAL), profile.moments[Modality.VISUAL].mean.tolist()
        (2, [0.5, 0.5])
    """

    speaker: str
    moments: Mapping[Modality, Moments] = field(default_factory=dict)
    extractors: Mapping[Modality, str | None] = field(default_factory=dict)

    def clips(self, modality: Modality) -> int:
        """How many clips had a modality."""
        return int(self.moments[modality].clips) if modality in self.moments else 0

    def with_clip(
        self,
        sequences: Mapping[Modality, NDArray[np.floating]],
        features: Mapping[Modality, FeatureSpec],
    ) -> SpeakerProfile:
        """The profile with one more clip.

        Args:
            sequences: ``(T, D)`` of each modality that the clip has.
            features: How they were made, as far as it is known.

        Raises:
            InputError: Features of another extractor or size than those before.
        """
        keys = {m: features[m].key if m in features else None for m in sequences}
        self.check(keys, {m: sequence.shape[-1] for m, sequence in sequences.items()})
        clip = {m: Moments.of_clip(sequence) for m, sequence in sequences.items()}
        return self + SpeakerProfile(self.speaker, clip, keys)

    def __add__(self, other: SpeakerProfile) -> SpeakerProfile:
        """All clips of both, as of this speaker; InputError where their features differ."""
        self.check(other.extractors, {m: len(known.mean) for m, known in other.moments.items()})
        moments = dict(self.moments)
        for m, known in other.moments.items():
            moments[m] = moments[m] + known if m in moments else known
        return replace(self, moments=moments, extractors={**self.extractors, **other.extractors})

    def check(self, keys: Mapping[Modality, str | None], sizes: Mapping[Modality, int]) -> None:
        """Raises InputError unless features with these keys and sizes are of the profile's kind."""
        problems = []
        for modality in (m for m in self.moments if m in sizes):
            expected = len(self.moments[modality].mean)
            if sizes[modality] != expected:
                problems.append(
                    f"{modality}: expected {expected} features per step, got {sizes[modality]}"
                )
            elif self.extractors[modality] != keys.get(modality):
                problems.append(
                    f"{modality}: made by another extractor (or one with other settings) than the "
                    "clips of the profile"
                )
        if problems:
            raise InputError(
                all_problems(f"profile of {self.speaker!r}: does not fit the features", problems)
                + "\nEnrol the speaker with the model that shall use the profile."
            )

    @property
    def key(self) -> str:
        """Hexadecimal SHA-256 of all that changes predictions."""
        digest = hashlib.sha256(json.dumps(self._header()["streams"], sort_keys=True).encode())
        for modality in STREAMS:
            if modality in self.moments:
                for part in _PARTS:
                    digest.update(getattr(self.moments[modality], part).tobytes())
        return digest.hexdigest()

    def save(self, path: Path | str) -> None:
        """Writes the profile, whole or not at all.

        Raises:
            InputError: Nothing is known of the speaker.
        """
        from safetensors.numpy import save

        if not self.moments:
            raise InputError(f"profile of {self.speaker!r}: expected at least one clip, got none")
        tensors = {
            f"{m}.{part}": getattr(known, part)
            for m, known in self.moments.items()
            for part in _PARTS
        }
        header = {_HEADER: json.dumps({"schema_version": SCHEMA_VERSION, **self._header()})}
        with atomic_write(Path(path)) as temporary:
            # Not save_file: its errors, as of a full disk, are of a type of its own.
            temporary.write_bytes(save(tensors, metadata=header))

    def _header(self) -> dict[str, Any]:
        streams = {
            str(m): {"extractor": self.extractors[m], "clips": self.moments[m].clips}
            for m in STREAMS
            if m in self.moments
        }
        return {"speaker": self.speaker, "streams": streams}

    @classmethod
    def load(cls, path: Path | str) -> SpeakerProfile:
        """Reads what :meth:`save` wrote.

        Raises:
            InputError: The file does not exist.
            StoreError: It is damaged, no profile, or of another schema version.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"profile: {path} does not exist; make one with `vavl enrol`")
        header, tensors = _read(path)
        if header.get("schema_version") != SCHEMA_VERSION:
            raise StoreError(
                f"{path}: expected schema version {SCHEMA_VERSION}, got "
                f"{header.get('schema_version')!r}; {_REMEDY} of this version"
            )
        moments, extractors = {}, {}
        try:
            for name, content in header["streams"].items():
                modality = Modality(name)
                parts = (tensors[f"{name}.{part}"] for part in _PARTS)
                moments[modality] = Moments(float(content["clips"]), *parts)
                extractors[modality] = content["extractor"]
            speaker = str(header["speaker"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(
                f"{path}: damaged ({type(error).__name__}: {error}); {_REMEDY}"
            ) from None
        if not all(map(_is_valid, moments.values())):
            raise StoreError(f"{path}: its statistics make no sense; {_REMEDY}")
        return cls(speaker, moments, extractors)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_HEADER)
            header = None if text is None else json_object(text)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{path}: not a readable profile ({error}); {_REMEDY}") from None
    if header is None:
        raise StoreError(f"{path}: a safetensors file, but no profile of a speaker; {_REMEDY}")
    return header, tensors


def _is_valid(moments: Moments) -> bool:
    mean, variance = moments.mean, moments.variance
    return (
        mean.ndim == 1
        and mean.shape == variance.shape
        and mean.dtype == variance.dtype == np.float64
        and bool(np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all())
        and 1 <= moments.clips < float("inf")
    )
