"""The face in a video as a sequence of features: frames, the main face in each, its embedding."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vavl.errors import InputError, MediaError
from vavl.faces.alignment import Face, FaceDetector
from vavl.faces.detector import MtcnnDetector
from vavl.faces.given import GivenFaces
from vavl.faces.tracking import DETECT_EVERY, FaceTracker, MainFaceRule, TrackedFrame
from vavl.faces.turning import AnyWayUp
from vavl.features.compact_face import CROP_SIZE, CompactFaceFeatures, crop_template
from vavl.features.mouth import mouth_opening
from vavl.media.frames import VideoFrame
from vavl.media.video import video_frames
from vavl.system.device import usable_device
from vavl.types import FeatureSpec, Modality

FACE_RATE_HZ = 12.5
"""Faces a second, by default: every other frame of usual video."""

FINEST_SIDE = 1280
"""Longer frames are shrunk to this side: a face that needs more pixels is too small to use."""


MOST_EMBEDDED = 3
"""Faces of a frame that the network sees; of more the main one, and one of the others in turn."""

FaceSource = Literal["found", "upright", "given"]
"""Where faces are: looked for any way up, looked for upright alone, or each picture is one."""

People = Literal["all", "main"]
"""Who of those in the picture is followed: everybody, or the main person alone."""


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

    def embed_faces(
        self, frames: Sequence[NDArray[np.uint8]], faces: Sequence[Face]
    ) -> NDArray[np.float32]:
        """Embeds one face of each frame: N >= 1 times ``(H, W, 3)``, and N faces to ``(N, D)``.

        A frame with several faces is given several times. No row depends on the others. A row of
        NaN says that this face cannot be read.
        """


@dataclass(frozen=True, eq=False)
class FaceStep:
    """The main face at one moment.

    Attributes:
        time_s: Of the frame, in seconds.
        features: ``(D,)``, NaN where there is no face, none that can be used, or one of many others
            whose turn it is not.
        face: The main face, or None.
        faces_seen: How many faces there were.
        brightness: Mean of red, green and blue in [0, 1], of the face or, where there is none, of
            the frame.
        flaw: Why the face cannot be used, :data:`SMALL` and so on, or None.
        person: Number of the person, from 0 in the order of appearance; None without a face.
        mouth: How wide the mouth is open, see :func:`vavl.features.mouth.mouth_opening`; NaN where
            nobody asks.
        frame_size: Width and height of the frame, in whose pixels the face is placed.
        others: The other faces at this moment, each as a step of its own, where all are asked for.
    """

    time_s: float
    features: NDArray[np.float32]
    face: Face | None
    faces_seen: int
    brightness: float
    flaw: str | None = None
    person: int | None = None
    mouth: float = math.nan
    frame_size: tuple[int, int] = (1, 1)
    others: tuple[FaceStep, ...] = ()

    @property
    def is_evidence(self) -> bool:
        """Whether there is a face that can be used."""
        return self.face is not None and self.flaw is None

    @property
    def everybody(self) -> Iterator[FaceStep]:
        """A step for every face at this moment."""
        return (step for step in (self, *self.others) if step.face is not None)

    def of(self, person: int) -> FaceStep:
        """The same moment with this person as the main one, and nobody else."""
        for step in self.everybody:
            if step.person == person:
                return replace(step, others=())
        nothing = np.full_like(self.features, np.nan)
        return replace(
            self, features=nothing, face=None, flaw=None, person=None, mouth=math.nan, others=()
        )


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
        by_looks: Whether cuts are looked for and people known again; see there.
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
        by_looks: bool = False,
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
        self._by_looks = by_looks
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
                **({"by_looks": True} if by_looks else {}),
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
            InputError: They cannot be found, or the device cannot be used here.
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

    def steps(
        self,
        frames: Iterable[VideoFrame],
        *,
        face: FaceSource = "upright",
        people: People = "main",
    ) -> Iterator[FaceStep]:
        """Follows the main face through frames of one shape, at :attr:`rate_hz`: a step for each.

        With all people, the other faces as well: :attr:`FaceStep.others`. Of more than
        :data:`MOST_EMBEDDED` faces the main one has features in each step, the others one after
        the other, so that many faces cost little more than two. Memory does not grow with the
        number of frames.
        """
        stream = self.stream(face, people)
        for frame in frames:
            yield from stream.update(frame)
        yield from stream.finish()

    def stream(self, face: FaceSource = "upright", people: People = "main") -> FaceStream:
        """A new stream, for frames that come in one after the other."""
        detector = self.detector
        if face == "found":
            detector = AnyWayUp(detector)
        elif face == "given":
            detector = GivenFaces(detector, crop_template() / CROP_SIZE)
        tracker = FaceTracker(detector, self.detect_every, main=self._main, by_looks=self._by_looks)
        return FaceStream(
            self.embedder,
            tracker,
            evidence_only=self._evidence_only,
            everybody=people == "all",
            device=self.device,
        )


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
    """Embeds the faces of frames as they come in; see :class:`FaceFeatures`."""

    def __init__(
        self,
        embedder: FaceEmbedder,
        tracker: FaceTracker,
        *,
        evidence_only: bool = False,
        everybody: bool = False,
        device: str = "cpu",
    ) -> None:
        self._embedder = embedder
        self._tracker = tracker
        self._evidence_only = evidence_only
        self._everybody = everybody
        self._device = device
        self._turn = 0  # of the others, where not all are embedded
        self._nothing = np.full(embedder.dim, np.nan, np.float32)

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
        sights = [self._sights(tracked) for tracked in settled]
        shown = [sight for found in sights for sight in found if sight.is_embedded]
        # Only where several could speak does it matter whose mouth moves.
        several = any(len(found) > 1 for found in sights)
        embedded = iter(self._embed(shown, mouths=several) if shown else ())
        steps = []
        for found in sights:
            main, *others = (
                sight.step(*(next(embedded) if sight.is_embedded else (self._nothing, math.nan)))
                for sight in found
            )
            steps.append(replace(main, others=tuple(others)) if others else main)
        return steps

    def _sights(self, tracked: TrackedFrame) -> list[_Sight]:
        """The main face of a frame, or none, then the others where they are asked for."""
        numbers = [tracked.track]
        if self._everybody:
            numbers += [number for number in tracked.faces if number != tracked.track]
        in_turn = len(numbers) > MOST_EMBEDDED
        self._turn += in_turn
        sights = []
        for place, number in enumerate(numbers):
            face = None if number is None else tracked.faces[number]
            pixels = _shown(tracked.frame.pixels, face)
            flaw = _flaw(face, pixels) if self._evidence_only and face is not None else None
            brightness = float(pixels[::4, ::4].mean()) / 255
            has_turn = not in_turn or place in (0, 1 + self._turn % (len(numbers) - 1))
            sights.append(_Sight(tracked, number, face, flaw, brightness, has_turn))
        return sights

    def _embed(
        self, sights: list[_Sight], *, mouths: bool
    ) -> Iterator[tuple[NDArray[np.float32], float]]:
        """The embedding of each face, and how wide its mouth is open; NaN unless asked for."""
        frames = [sight.tracked.frame.pixels for sight in sights]
        faces = [sight.face for sight in sights if sight.face is not None]
        embeddings = self._embedder.embed_faces(frames, faces)
        openings = np.full(len(faces), np.nan, np.float32)
        if mouths:
            seen = embeddings
            if not isinstance(self._embedder, CompactFaceFeatures):
                seen = CompactFaceFeatures(device=self._device).embed_faces(frames, faces)
            openings = mouth_opening(seen)
        return zip(embeddings, openings.tolist(), strict=True)


class _Sight(NamedTuple):
    """A face in a frame, or a frame without one, before it is embedded."""

    tracked: TrackedFrame
    number: int | None
    face: Face | None
    flaw: str | None
    brightness: float
    has_turn: bool

    @property
    def is_embedded(self) -> bool:
        """Whether the network is to see it."""
        return self.face is not None and self.flaw is None and self.has_turn

    def step(self, features: NDArray[np.float32], mouth: float) -> FaceStep:
        """With what the network saw, or NaN."""
        unreadable = self.is_embedded and np.isnan(features[0])
        height, width = self.tracked.frame.pixels.shape[:2]
        return FaceStep(
            time_s=self.tracked.frame.time_s,
            features=features,
            face=self.face,
            faces_seen=self.tracked.faces_seen,
            brightness=self.brightness,
            flaw=UNREADABLE if unreadable else self.flaw,
            person=self.number,
            mouth=mouth,
            frame_size=(width, height),
        )


def _flaw(face: Face, shown: NDArray[np.uint8]) -> str | None:
    """What makes a face no evidence, as far as its size and its light say."""
    if face_side(face) < SMALLEST_FACE:
        return SMALL
    grey = shown[::2, ::2].mean(axis=2) / 255
    if grey.mean() < DARKEST_FACE:
        return DARK
    return FLAT if grey.std() < FLATTEST_FACE else None


def face_side(face: Face) -> float:
    """The shorter side of the box of a face, in pixels."""
    x0, y0, x1, y1 = face.box
    return min(x1 - x0, y1 - y0)


def _shown(pixels: NDArray[np.uint8], face: Face | None) -> NDArray[np.uint8]:
    """The pixels of the face, or of the frame where there is none."""
    if face is not None:
        x0, y0, x1, y1 = (max(0, round(value)) for value in face.box)
        inside = pixels[y0:y1, x0:x1]
        pixels = inside if inside.size else pixels
    return pixels
