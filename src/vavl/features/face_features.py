"""The face in a video as a sequence of features: frames, the main face in each, its embedding."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.faces.alignment import Face, FaceDetector
from vavl.faces.tracking import (
    DETECT_EVERY,
    FaceTracker,
    MainFaceRule,
    TrackedFrame,
    check_tracking,
)
from vavl.media.frames import VideoFrame, folder_frames
from vavl.media.video import video_frames
from vavl.types import FeatureSpec, Modality

FACE_RATE_HZ = 12.5
"""Faces a second, by default: every other frame of usual video."""

FINEST_SIDE = 1280
"""Longer frames are shrunk to this side: a face that needs more pixels is too small to use."""


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
        """JSON-compatible settings that change the numbers, the crop among them."""

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the weights."""

    @property
    def source(self) -> str | None:
        """Where the weights come from, if not from the package."""

    def load(self) -> None:
        """Reads the weights now instead of with the first face."""

    def embed_faces(self, frames: NDArray[np.uint8], faces: list[Face]) -> NDArray[np.float32]:
        """Embeds one face of each frame.

        Args:
            frames: ``(N, H, W, 3)`` RGB, uint8, N >= 1.
            faces: N faces, the n-th in the n-th frame.

        Returns:
            ``(N, D)``, no row dependent on the others.
        """


@dataclass(frozen=True, eq=False)
class FaceStep:
    """The main face at one moment.

    Attributes:
        time_s: Of the frame, in seconds.
        features: ``(D,)``, NaN where there is no face.
        face: The main face, or None.
        faces_seen: How many faces there were.
        brightness: Mean of red, green and blue in [0, 1], of the face or, where there is none, of
            the frame.
    """

    time_s: float
    features: NDArray[np.float32]
    face: Face | None
    faces_seen: int
    brightness: float


class FaceFeatures:
    """Features of the main face of a video, at a constant rate; NaN where no face is seen.

    Args:
        embedder: Turns faces into vectors.
        detector: Finds faces. Default: MTCNN with the weights of the package.
        frame_rate_hz: Steps per second, independent of the frame rate of the video.
        detect_every: Steps from one detection to the next; see
            :class:`vavl.faces.tracking.FaceTracker`.
        main: Which of several faces is taken; see there.

    Raises:
        InputError: Naming every argument that makes no sense.
    """

    source_field: ClassVar[Literal["video_path"]] = "video_path"

    def __init__(
        self,
        embedder: FaceEmbedder,
        detector: FaceDetector | None = None,
        frame_rate_hz: float = FACE_RATE_HZ,
        detect_every: int = DETECT_EVERY,
        main: MainFaceRule | int = "prominent",
    ) -> None:
        if not 0 < frame_rate_hz <= 120:
            raise InputError(
                f"frame_rate_hz: expected more than 0 and at most 120, got {frame_rate_hz}"
            )
        self.embedder = embedder
        self.detect_every = detect_every
        self._detector = detector
        check_tracking(detect_every, main=main)
        self._tracker = partial(FaceTracker, detect_every=detect_every, main=main)
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
        """Reads all weights now instead of with the first clip."""
        self.embedder.load()
        _ = self.detector

    def extract_file(
        self,
        path: str | PathLike[str],
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> NDArray[np.float32]:
        """Features of a video file or of a folder of frames, or of a part of it.

        Returns:
            ``(T, D)``; a row of NaN is a step without a face.

        Raises:
            MediaError: As :func:`vavl.media.video.video_frames`, or no face is seen at all.
        """
        steps = [step.features for step in self.steps(self.frames(path, start_s, end_s))]
        features = np.stack(steps)
        if np.isnan(features[:, 0]).all():
            raise MediaError(f"{path}: no face was found in any of the {len(steps)} sampled frames")
        return features

    def frames(
        self,
        path: str | PathLike[str],
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> Iterator[VideoFrame]:
        """Frames of a file or a folder of pictures at the rate of these features."""
        read = folder_frames if Path(path).is_dir() else video_frames
        return read(
            path,
            frame_rate_hz=self.rate_hz,
            start_s=start_s,
            end_s=end_s,
            max_side=FINEST_SIDE,
        )

    def steps(self, frames: Iterable[VideoFrame]) -> Iterator[FaceStep]:
        """Follows the main face through frames; memory does not grow with their number.

        Args:
            frames: In the order of time, at :attr:`rate_hz`, all of one shape.

        Yields:
            One step for each frame.
        """
        stream = self.stream()
        for frame in frames:
            yield from stream.update(frame)
        yield from stream.finish()

    def stream(self) -> FaceStream:
        """A new stream, for frames that come in one after the other."""
        return FaceStream(self.embedder, self._tracker(self.detector))

    @cached_property
    def detector(self) -> FaceDetector:
        """Finds the faces; made when first needed."""
        if self._detector is not None:
            return self._detector
        from vavl.faces.detector import MtcnnDetector

        return MtcnnDetector()

    def __getstate__(self) -> dict[str, Any]:
        # A worker process reads the weights from disk, which is cheaper than sending them.
        return {name: value for name, value in self.__dict__.items() if name != "detector"}


class FaceFeaturesOf:
    """Builds :class:`FaceFeatures` around one kind of network, from the parameters of both by name.

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
        own = inspect.signature(network).parameters
        self.__signature__ = inspect.Signature(
            [p.replace(kind=p.KEYWORD_ONLY) for p in (*own.values(), *options.values())]
        )

    def __call__(self, **parameters: Any) -> FaceFeatures:
        """Builds the extractor."""
        options = {name: parameters.pop(name) for name in self._options if name in parameters}
        return FaceFeatures(self._network(**parameters), **options)


class FaceStream:
    """Embeds the main face of frames as they come in; see :class:`FaceFeatures`."""

    def __init__(self, embedder: FaceEmbedder, tracker: FaceTracker) -> None:
        self._embedder = embedder
        self._tracker = tracker

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
        shown = [tracked for tracked in settled if tracked.face is not None]
        embeddings = iter(
            self._embedder.embed_faces(
                np.stack([tracked.frame.pixels for tracked in shown]),
                [tracked.face for tracked in shown if tracked.face is not None],
            )
            if shown
            else ()
        )
        absent = np.full(self._embedder.dim, np.nan, np.float32)
        return [
            FaceStep(
                time_s=tracked.time_s,
                features=absent if tracked.face is None else next(embeddings),
                face=tracked.face,
                faces_seen=tracked.faces_seen,
                brightness=_brightness(tracked),
            )
            for tracked in settled
        ]


def _brightness(tracked: TrackedFrame) -> float:
    """Mean of all channels in [0, 1], of every fourth pixel of the face or the frame."""
    pixels = tracked.frame.pixels
    if tracked.face is not None:
        x0, y0, x1, y1 = (max(0, round(value)) for value in tracked.face.box)
        inside = pixels[y0:y1, x0:x1]
        pixels = inside if inside.size else pixels
    return float(pixels[::4, ::4].mean()) / 255
