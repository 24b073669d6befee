"""The face in a video as a sequence of features: frames, the main face in each, its embedding."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.faces.alignment import Face, FaceDetector
from vavl.faces.detector import MtcnnDetector
from vavl.faces.tracking import DETECT_EVERY, FaceTracker, MainFaceRule, TrackedFrame
from vavl.media.frames import VideoFrame
from vavl.media.video import video_frames
from vavl.system.device import usable_device
from vavl.types import FeatureSpec, Modality

FACE_RATE_HZ = 12.5
"""Faces a second, by default: every other frame of usual video."""

FINEST_SIDE = 1280
"""Longer frames are shrunk to this side: a face that needs more pixels is too small to use."""


SMALLEST_FACE = 20.0
"""Pixels: with ``evidence_only``, a face whose box is narrower or lower says nothing."""
DARKEST_FACE, FLATTEST_FACE = 0.06, 0.025
"""With ``evidence_only``, a face says nothing whose grey values, in [0, 1], have a smaller mean or
standard deviation."""
SMALL, DARK, FLAT, UNREADABLE = "too small", "too dark", "without contrast", "unreadable"
"""What makes a face no evidence; the last one is what the network says."""


class FaceEmbedder(Protocol):
    """Anything that turns faces into vectors."""

    @property
    def name(self) -> str:
        """Registered name, e.g. ``"compact-face"``."""

    @property
    def dim(self) -> int:
        """Features per face (D)."""

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON-compatible settings that change the numbers."""

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the weights."""

    @property
    def source(self) -> str | None:
        """Where the weights come from, if not from the package."""

    def load(self) -> None:
        """Reads the weights now instead of with the first face."""

    def embed_faces(self, frames: NDArray[np.uint8], faces: list[Face]) -> NDArray[np.float32]:
        """Embeds one face of each frame: ``(N, H, W, 3)``, N >= 1, and N faces to ``(N, D)``.

        No row depends on the others. A row of NaN says that this face cannot be read.
        """


@dataclass(frozen=True, eq=False)
class FaceStep:
    """The main face at one moment.

    Attributes:
        time_s: Of the frame, in seconds.
        features: ``(D,)``, NaN where there is no face, or none that can be used.
        face: The main face, or None.
        faces_seen: How many faces there were.
        brightness: Mean of red, green and blue in [0, 1], of the face or, where there is none, of
            the frame.
        flaw: Why the face cannot be used, :data:`SMALL` and so on, or None.
    """

    time_s: float
    features: NDArray[np.float32]
    face: Face | None
    faces_seen: int
    brightness: float
    flaw: str | None = None

    @property
    def is_evidence(self) -> bool:
        """Whether there is a face that can be used."""
        return self.face is not None and self.flaw is None


class FaceFeatures:
    """Features of the main face of a video, at a constant rate; NaN where no face is seen.

    Args:
        embedder: Turns faces into vectors.
        detector: Finds faces. Default: MTCNN with the weights of the package, on the device.
        frame_rate_hz: Steps per second, whatever the frame rate of the video.
        detect_every: Steps from one detection to the next; see
            :class:`vavl.faces.tracking.FaceTracker`.
        main: Which of several faces is taken; see there.
        evidence_only: Whether a face that is too small, too dark or without contrast is no
            evidence: its features are NaN.
        device: Where the default detector runs; it does not enter the store's key.
    """

    source_field: ClassVar[Literal["video_path"]] = "video_path"

    def __init__(
        self,
        embedder: FaceEmbedder,
        detector: FaceDetector | None = None,
        frame_rate_hz: float = FACE_RATE_HZ,
        detect_every: int = DETECT_EVERY,
        main: MainFaceRule | int = "prominent",
        evidence_only: bool = False,
        device: str = "cpu",
    ) -> None:
        if not 0 < frame_rate_hz <= 120:
            raise InputError(
                f"frame_rate_hz: expected more than 0 and at most 120, got {frame_rate_hz}"
            )
        self.embedder = embedder
        self.device = device
        self.detector = MtcnnDetector(device=device) if detector is None else detector
        self.detect_every = detect_every
        self._main: MainFaceRule | int = main
        self._evidence_only = evidence_only
        self.stream()  # the tracker checks its arguments
        name = "mtcnn" if detector is None else type(detector).__name__
        self.spec = FeatureSpec(
            modality=Modality.VISUAL,
            extractor=embedder.name,
            dim=embedder.dim,
            frame_rate_hz=float(frame_rate_hz),
            parameters={
                **embedder.parameters,
                "detector": name,
                "detect_every": detect_every,
                "main": main,
                "finest_side": FINEST_SIDE,
                # Only where it is asked for, so that older stores keep their keys.
                **({"evidence_only": True} if evidence_only else {}),
            },
            weights_sha256=embedder.weights_sha256,
            source=embedder.source,
        )

    @property
    def rate_hz(self) -> float:
        """Steps per second."""
        assert self.spec.frame_rate_hz is not None
        return self.spec.frame_rate_hz

    def load(self) -> None:
        """Reads the weights of the embedder now instead of with the first face.

        Raises:
            InputError: They cannot be had, or the device cannot be used here.
        """
        usable_device(self.device)
        self.embedder.load()

    def extract_file(
        self,
        path: str | PathLike[str],
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> NDArray[np.float32]:
        """Features ``(T, D)`` of a video file or a folder of frames, or of a part of it.

        A row of NaN is a step without a face, or without one that can be used. MediaError if that
        is so in all of them.
        """
        steps = list(self.steps(self.frames(path, start_s, end_s)))
        if not any(step.is_evidence for step in steps):
            flaws = [step.flaw for step in steps if step.flaw is not None]
            found = "no face was found in any"
            if flaws:
                found = f"no face could be used ({max(flaws, key=flaws.count)}) in any"
            raise MediaError(f"{path}: {found} of the {len(steps)} sampled frames")
        return np.stack([step.features for step in steps])

    def frames(
        self,
        path: str | PathLike[str],
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> Iterator[VideoFrame]:
        """Frames of a file or a folder of pictures at the rate of these features."""
        return video_frames(
            path, frame_rate_hz=self.rate_hz, start_s=start_s, end_s=end_s, max_side=FINEST_SIDE
        )

    def steps(self, frames: Iterable[VideoFrame]) -> Iterator[FaceStep]:
        """Follows the main face through frames of one shape, at :attr:`rate_hz`: a step for each.

        Memory does not grow with their number.
        """
        stream = self.stream()
        for frame in frames:
            yield from stream.update(frame)
        yield from stream.finish()

    def stream(self) -> FaceStream:
        """A new stream, for frames that come in one after the other."""
        tracker = FaceTracker(self.detector, self.detect_every, main=self._main)
        return FaceStream(self.embedder, tracker, evidence_only=self._evidence_only)


class FaceFeaturesOf:
    """Builds :class:`FaceFeatures` around one kind of network, from the parameters of both by name.

    A network that takes a ``device`` gets that of the detector.

    Args:
        network: Makes the embedder from its own parameters.

    Example:
        >>> from vavl.features.compact_face import CompactFaceFeatures
        >>> build = FaceFeaturesOf(CompactFaceFeatures)
        >>> build(mirrored=False, detect_every=1).spec.dim
        256
    """

    def __init__(self, network: Callable[..., FaceEmbedder]) -> None:
        self._network = network
        options = dict(inspect.signature(FaceFeatures).parameters)
        del options["embedder"], options["detector"]
        self._options = tuple(options)
        own = dict(inspect.signature(network).parameters)
        self._network_has_device = own.pop("device", None) is not None
        self.__signature__ = inspect.Signature(
            [p.replace(kind=p.KEYWORD_ONLY) for p in (*own.values(), *options.values())]
        )

    def __call__(self, **parameters: Any) -> FaceFeatures:
        """Builds the extractor."""
        options = {name: parameters.pop(name) for name in self._options if name in parameters}
        if self._network_has_device and "device" in options:
            parameters["device"] = options["device"]
        return FaceFeatures(self._network(**parameters), **options)


class FaceStream:
    """Embeds the main face of frames as they come in; see :class:`FaceFeatures`."""

    def __init__(
        self, embedder: FaceEmbedder, tracker: FaceTracker, *, evidence_only: bool = False
    ) -> None:
        self._embedder = embedder
        self._tracker = tracker
        self._evidence_only = evidence_only

    @property
    def latency_frames(self) -> int:
        """By how many frames a step is late at most."""
        return self._tracker.latency_frames

    def update(self, frame: VideoFrame) -> list[FaceStep]:
        """Takes the next frame; returns the steps that are settled now, in order."""
        return self._embedded(self._tracker.update(frame))

    def finish(self) -> list[FaceStep]:
        """Ends the video; returns the steps that were not settled yet."""
        return self._embedded(self._tracker.finish())

    def _embedded(self, settled: list[TrackedFrame]) -> list[FaceStep]:
        flaws = [_flaw(tracked) if self._evidence_only else None for tracked in settled]
        pairs = zip(settled, flaws, strict=True)
        shown = [tracked for tracked, flaw in pairs if tracked.face is not None and flaw is None]
        embeddings: Iterator[NDArray[np.float32]] = iter(())
        if shown:
            frames = np.stack([tracked.frame.pixels for tracked in shown])
            faces = [tracked.face for tracked in shown if tracked.face is not None]
            embeddings = iter(self._embedder.embed_faces(frames, faces))
        steps = []
        for tracked, flaw in zip(settled, flaws, strict=True):
            features = np.full(self._embedder.dim, np.nan, np.float32)
            if tracked.face is not None and flaw is None:
                features = next(embeddings)
                flaw = UNREADABLE if np.isnan(features[0]) else None
            steps.append(
                FaceStep(
                    time_s=tracked.frame.time_s,
                    features=features,
                    face=tracked.face,
                    faces_seen=tracked.faces_seen,
                    brightness=_brightness(tracked),
                    flaw=flaw,
                )
            )
        return steps


def _flaw(tracked: TrackedFrame) -> str | None:
    """What makes a face no evidence, as far as its size and its light say."""
    if tracked.face is None:
        return None
    if face_side(tracked.face) < SMALLEST_FACE:
        return SMALL
    grey = _shown(tracked)[::2, ::2].mean(axis=2) / 255
    if grey.mean() < DARKEST_FACE:
        return DARK
    return FLAT if grey.std() < FLATTEST_FACE else None


def face_side(face: Face) -> float:
    """The shorter side of the box of a face, in pixels."""
    x0, y0, x1, y1 = face.box
    return min(x1 - x0, y1 - y0)


def _brightness(tracked: TrackedFrame) -> float:
    """Mean of all channels in [0, 1], of every fourth pixel of the face or the frame."""
    return float(_shown(tracked)[::4, ::4].mean()) / 255


def _shown(tracked: TrackedFrame) -> NDArray[np.uint8]:
    """The pixels of the face, or of the frame where there is none."""
    pixels = tracked.frame.pixels
    if tracked.face is not None:
        x0, y0, x1, y1 = (max(0, round(value)) for value in tracked.face.box)
        inside = pixels[y0:y1, x0:x1]
        pixels = inside if inside.size else pixels
    return pixels
