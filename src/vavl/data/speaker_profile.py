"""What is kept of a person: statistics of the features of their unlabelled clips, in a small file.

The file is a safetensors file: the statistics as tensors, and in its header what they are about::

    acoustic.mean, acoustic.variance     (D,) float64, likewise visual
    header "profile"                     JSON: schema version, speaker, extractor and clips of each

It holds no sound, no picture and no label, but averages of features of a person: personal data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vavl.atomic import atomic_write
from vavl.data.moments import Moments
from vavl.errors import InputError, StoreError, all_problems
from vavl.types import STREAMS, FeatureSpec, Modality

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
        sizes = {m: sequence.shape[-1] for m, sequence in sequences.items()}
        self.check(keys, sizes)
        new = {m: Moments.of_clip(sequence) for m, sequence in sequences.items()}
        together = {
            m: self.moments[m] + one if m in self.moments else one for m, one in new.items()
        }
        return replace(
            self, moments={**self.moments, **together}, extractors={**self.extractors, **keys}
        )

    def check(self, keys: Mapping[Modality, str | None], sizes: Mapping[Modality, int]) -> None:
        """Raises InputError unless features with these keys and sizes are of the profile's kind."""
        problems = []
        for modality, known in self.moments.items():
            if modality not in sizes:
                continue
            if sizes[modality] != len(known.mean):
                problems.append(
                    f"{modality}: expected {len(known.mean)} features per step, got "
                    f"{sizes[modality]}"
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
        from safetensors.numpy import save_file

        if not self.moments:
            raise InputError(f"profile of {self.speaker!r}: expected at least one clip, got none")
        tensors = {
            f"{m}.{part}": getattr(known, part)
            for m, known in self.moments.items()
            for part in _PARTS
        }
        header = {_HEADER: json.dumps({"schema_version": SCHEMA_VERSION, **self._header()})}
        with atomic_write(Path(path)) as temporary:
            save_file(tensors, temporary, metadata=header)

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
        try:
            streams = {Modality(name): content for name, content in header["streams"].items()}
            moments = {
                m: Moments(float(content["clips"]), *(tensors[f"{m}.{part}"] for part in _PARTS))
                for m, content in streams.items()
            }
            extractors = {m: content["extractor"] for m, content in streams.items()}
            speaker = str(header["speaker"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(
                f"{path}: damaged ({type(error).__name__}: {error}); {_REMEDY}"
            ) from None
        if not all(map(_sound, moments.values())):
            raise StoreError(f"{path}: its statistics make no sense; {_REMEDY}")
        return cls(speaker, moments, extractors)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{path}: not a readable profile ({error}); {_REMEDY}") from None
    if not isinstance(header, dict):
        raise StoreError(f"{path}: a safetensors file, but no profile of a speaker; {_REMEDY}")
    return header, tensors


def _sound(moments: Moments) -> bool:
    mean, variance = moments.mean, moments.variance
    return (
        mean.ndim == 1
        and mean.shape == variance.shape
        and mean.dtype == variance.dtype == np.float64
        and bool(np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all())
        and 1 <= moments.clips < float("inf")
    )
