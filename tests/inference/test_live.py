"""Live recognition gives what a file gives, in time; sources give what is in the file or pipe."""

from __future__ import annotations

import io
import math
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import pytest

import vavl
from vavl.errors import InputError, MediaError
from vavl.inference import live as live_module
from vavl.inference import sources
from vavl.inference.live import LiveRecognizer, run_stream
from vavl.inference.reader import Reader
from vavl.inference.sources import LiveSource, device, file_at_real_time, pcm, pipe
from vavl.inference.windows import Window
from vavl.media.audio import SAMPLING_RATE_HZ, read_audio
from vavl.media.frames import VideoFrame
from vavl.media.video import video_frames
from vavl.types import Modality, TimedPrediction


class Deaf:
    """Knows nothing, and remembers the windows it was shown."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.windows: list[Window] = []

    def predict_window(self, window: Window, profile: None = None) -> TimedPrediction:
        self.windows.append(window)
        return TimedPrediction(window.start_s, window.end_s, None, None, {}, {})


def streamed(recognizer: object, source: LiveSource) -> list[TimedPrediction]:
    predictions: list[TimedPrediction] = []
    run_stream(recognizer, source, lambda prediction, _: predictions.append(prediction))
    return predictions


def assert_same(live: list[TimedPrediction], file: tuple[TimedPrediction, ...]) -> None:
    assert len(live) == len(file)
    for ours, theirs in zip(live, file, strict=True):
        assert (ours.start_s, ours.end_s) == pytest.approx((theirs.start_s, theirs.end_s))
        assert (ours.modality, ours.label) == (theirs.modality, theirs.label)
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)
        assert ours.attributes == pytest.approx(theirs.attributes, abs=1e-5)
        assert ours.face_share == pytest.approx(theirs.face_share)


@pytest.mark.parametrize(
    "settings",
    [
        {"seconds": 4.3},
        {"seconds": 4.3, "rate": 30, "name": "film.mkv"},
        {"seconds": 3.0, "rate": 10, "audio": None},
        {"seconds": 2.6, "video": None, "name": "film.wav", "audio": "pcm_s16le"},
        {"seconds": 1.1},
        {"seconds": 5.0, "times": [k / 25 for k in range(60)]},  # the sound goes on
        {"seconds": 1.0, "times": [k / 25 for k in range(90)]},  # the picture goes on
        {"times": [0.0, 0.04, 0.3, 0.31, 1.1, 1.5, 1.54, 2.2, 2.5, 2.54, 2.58]},
        {"size": (1600, 64), "seconds": 0.6, "audio": None},
    ],
)
def test_a_stream_gives_what_its_file_gives(recognizer, film, settings) -> None:
    path = film(**settings)
    expected = recognizer.predict(path, timeline=True).timeline
    assert_same(streamed(recognizer, file_at_real_time(path, math.inf)), expected)
    if len(expected) > 2:  # else the comparison would say little
        happy = [prediction.probabilities["happy"] for prediction in expected]
        assert max(happy) - min(happy) > 3e-4


@pytest.mark.shared
@pytest.mark.parametrize("name", ["single_face.mp4", "WolfgangLanger_Pexels.mp4"])
def test_the_bundled_model_streams_what_it_says_of_a_real_face(shared: Path, name: str) -> None:
    path = shared / "samples" / name
    recognizer = vavl.load()
    expected = recognizer.predict(path, timeline=True).timeline
    assert {window.face_share for window in expected} == {1.0}
    assert_same(streamed(recognizer, file_at_real_time(path, math.inf)), expected)


def test_a_made_up_recognizer_is_shown_the_same_windows(recognizer, film) -> None:
    path = film(seconds=3.2)
    deaf = Deaf(recognizer.reader)
    live = streamed(deaf, file_at_real_time(path, math.inf))
    assert [(p.start_s, p.end_s) for p in live] == [
        *((0.0, 2.0), (0.5, 2.5), (1.0, 3.0)),
        pytest.approx((1.2, 3.2), abs=0.1),
    ]
    sound = read_audio(path)
    for window in deaf.windows[:3]:
        first = round(window.start_s * SAMPLING_RATE_HZ)
        np.testing.assert_array_equal(window.waveform, sound[first : first + 32_000])
        assert [s.time_s for s in window.steps] == pytest.approx(
            [k / 12.5 for k in range(50) if window.start_s <= k / 12.5 < window.end_s - 1e-6]
        )


def test_it_tells_where_the_face_is(recognizer) -> None:
    light, dark = (np.full((64, 96, 3), level, np.uint8) for level in (180, 0))
    live = LiveRecognizer(recognizer, audio=False, video=True)
    assert live.face is None
    for step in range(25):
        live.add_frame(VideoFrame(step / 12.5, light))
    seen = recognizer.predict(frames=np.stack([light] * 25), frame_rate_hz=12.5).people[0].track
    assert live.face is not None
    assert live.face.box == pytest.approx(seen[0].box)
    assert 1.0 < live.face.time_s < 2.0
    for step in range(25, 50):
        live.add_frame(VideoFrame(step / 12.5, dark))
    assert live.face is None


def test_blocks_of_any_size_and_order_give_the_same(recognizer, film) -> None:
    path = film(seconds=3.0)
    expected = recognizer.predict(path, timeline=True).timeline
    live = LiveRecognizer(recognizer, audio=True, video=True)
    sound, frames = read_audio(path), list(video_frames(path))
    predictions = []
    for start in range(0, len(sound), 777):  # all the sound comes before the picture
        predictions += live.add_audio(sound[start : start + 777])
    predictions += live.end_audio()
    assert predictions == []
    for frame in frames:
        predictions += live.add_frame(frame)
    assert_same(predictions + live.finish(), expected)


def test_large_frames_are_shrunk_as_from_a_file(recognizer) -> None:
    pixels = np.zeros((90, 2560, 3), np.uint8)
    deaf = Deaf(recognizer.reader)
    seen = []
    live = LiveRecognizer(deaf, audio=False, video=True)
    live._stream.update = lambda frame: seen.append(frame.pixels.shape) or []
    for number in range(5):
        live.add_frame(VideoFrame(number / 25, pixels))
    assert seen == [(45, 1280, 3)] * 2


@pytest.mark.parametrize("rate_hz", [25.0, 29.97, 60.0])
def test_predictions_come_within_the_stated_latency(recognizer, rate_hz) -> None:
    live = LiveRecognizer(recognizer, audio=True, video=True)
    assert live.latency_s == pytest.approx(4 / 12.5)
    assert LiveRecognizer(recognizer, audio=True, video=False).latency_s == 0
    noise = np.random.default_rng(0).normal(0, 0.1, 1600).astype(np.float32)
    now_s, heard_s, late = 0.0, 0.0, []
    for number in range(round(8 * rate_hz)):
        now_s = number / rate_hz
        predictions = []
        while heard_s + 0.1 <= now_s:
            predictions += live.add_audio(noise)
            heard_s += 0.1
        predictions += live.add_frame(VideoFrame(now_s, np.full((32, 48, 3), 150, np.uint8)))
        late += [now_s - prediction.end_s for prediction in predictions]
    assert len(late) >= 11
    # The frame after the one the detector sees, and a block of sound.
    assert max(late) <= live.latency_s + 2 / rate_hz + 0.001
    assert max(late) > live.latency_s - 1 / 12.5


class Clock:
    """Time that passes by sleeping alone, so that a busy machine changes nothing."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sources, "time", clock)
    monkeypatch.setattr(live_module, "time", clock)
    return clock


def test_a_source_plays_at_its_own_pace_and_tells_its_latency(
    recognizer, film, clock: Clock
) -> None:
    path = film(seconds=2.4, rate=10)
    latencies: list[float] = []
    run_stream(recognizer, file_at_real_time(path, 4.0), lambda p, late_s: latencies.append(late_s))
    assert clock.now_s == pytest.approx(2.4 / 4, abs=0.06)
    assert len(latencies) == 2
    assert max(latencies) < 0.5
    began_s, early = clock.now_s, []
    for kind, value in file_at_real_time(path, 8.0):
        if kind == "frame" and value is not None:
            early.append(value.time_s - (clock.now_s - began_s) * 8)
    assert early == pytest.approx([0.0] * 24, abs=1e-6)


def test_what_a_slow_machine_loses_is_said(
    film, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = film(seconds=30.0, rate=10)
    late, lost, heard, seen = [], 0, 0, 0
    for kind, value in file_at_real_time(path):
        if value is None:
            continue
        if kind == "audio":
            heard += len(value)
            lost += 0 if value.any() else len(value)
            clock.sleep(3 * len(value) / SAMPLING_RATE_HZ if value.any() else 0.001)
            late.append(clock.now_s - heard / SAMPLING_RATE_HZ)
        else:
            seen += 1
    assert heard / SAMPLING_RATE_HZ == pytest.approx(30, abs=0.1)
    assert 0.4 < lost / heard < 0.8
    assert seen < 300
    assert max(late) < 6
    notes = "\n".join(record.getMessage() for record in caplog.records)
    assert notes.count("frames are left out") == notes.count("sound is lost") == 1


def pictures_in_a_pipe(pixels: np.ndarray, width: int, height: int) -> LiveSource:
    return pipe(io.BytesIO(pixels.tobytes()), width, height, 25)


def test_a_pipe_of_another_format_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    down, right = np.mgrid[0:120, 0:160] / 12
    shades = 120 + 60 * np.sin(right) + 40 * np.cos(down + right / 3)
    grain = np.random.default_rng(0).normal(0, 2, shades.shape)
    grey = (shades + grain).astype(np.uint8)
    colour = np.stack([grey, grey // 2 + 30, 255 - grey], axis=-1)
    for pixels, width, height, note in (
        (colour, 160, 120, None),
        (np.repeat(grey[..., None], 3, axis=2), 160, 120, None),
        (colour, 150, 128, "the rows look 160 pixels long, not 150"),
        (colour, 200, 96, "the rows look 160 pixels long, not 200"),
        (grey, 160, 40, "the pictures look grey"),
        (colour[:100], 160, 120, "ended with 48000 of the 57600 bytes"),
    ):
        caplog.clear()
        list(pictures_in_a_pipe(pixels, width, height))
        notes = [record.getMessage() for record in caplog.records]
        assert note in notes[0] if note else not notes


@pytest.mark.parametrize("size", [(10**6, 10**6), (0, 1), ("64", 48), (2.5, 3), (10**12, 1)])
def test_frames_of_no_size_that_could_be(size: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="width, height: expected"):
        pipe(io.BytesIO(), *size, 25)


@pytest.mark.parametrize("rate_hz", [0, 1, 999, 10**9, 2**31, 10**12, "16000", None, 1.5, math.nan])
def test_sound_of_no_rate_that_could_be(rate_hz: Any) -> None:
    with pytest.raises(InputError, match="sampling_rate_hz: expected"):
        pcm(io.BytesIO(), rate_hz)


def test_only_what_the_model_can_take_is_read(recognizer, film) -> None:
    path = film(seconds=2.5)
    sighted = Reader({Modality.VISUAL: recognizer.features[Modality.VISUAL]})
    sighted.visual_extractor = recognizer.reader.visual_extractor
    deaf = Deaf(sighted)
    streamed(deaf, file_at_real_time(path, math.inf))
    assert all(not len(window.waveform) and window.steps for window in deaf.windows)
    kinds = {kind for kind, _ in file_at_real_time(path, math.inf, video=False)}
    assert kinds == {"audio"}
    with pytest.raises(MediaError, match="neither"):
        file_at_real_time(film("sound.wav", video=None, audio="pcm_s16le"), audio=False)
    for speed in (0, -1, 1e-300, math.nan, "2", None):
        with pytest.raises(InputError, match="speed"):
            file_at_real_time(path, speed)


def test_piped_frames_and_sound_are_those_of_a_file(recognizer, film) -> None:
    path = film("film.mkv", audio=None, video="ffv1", seconds=2.7)
    raw = b"".join(frame.pixels.tobytes() for frame in video_frames(path))
    source = pipe(Trickle(raw + b"cut off"), 96, 64, 25)
    assert_same(streamed(recognizer, source), recognizer.predict(path, timeline=True).timeline)

    path = film("film.wav", video=None, audio="pcm_s16le", seconds=2.7)
    with av.open(str(path)) as file:  # stereo: the mean is not exact in 16 bits
        both = np.concatenate([f.to_ndarray() for f in file.decode(audio=0)], axis=1)
    mono = both.reshape(-1, 2).mean(axis=1).round().astype("<i2")
    blocks = [samples for _, samples in pcm(Trickle(mono.tobytes() + b"x"), 44_100)]
    np.testing.assert_allclose(np.concatenate(blocks), read_audio(path), atol=1e-4)


class Trickle(io.RawIOBase):
    """Gives a few bytes at a time, as a pipe does."""

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._rest.read(min(size, 5000))


def test_wrong_input_is_refused(recognizer) -> None:
    frame = VideoFrame(0.0, np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(InputError, match="neither"):
        LiveRecognizer(recognizer, audio=False, video=False)
    live = LiveRecognizer(recognizer, audio=False, video=True)
    with pytest.raises(InputError, match="audio: expected none"):
        live.add_audio(np.zeros(10, np.float32))
    live.add_frame(frame)
    with pytest.raises(InputError, match=r"after 0\.000 s"):
        live.add_frame(frame)
    with pytest.raises(InputError, match="RGB"):
        live.add_frame(VideoFrame(1.0, np.zeros((32, 32), np.uint8)))
    live.finish()
    with pytest.raises(InputError, match="video: expected none"):
        live.add_frame(VideoFrame(1.0, frame.pixels))
    both = LiveRecognizer(recognizer, audio=True, video=True)
    with pytest.raises(InputError, match="samples"):
        both.add_audio(np.zeros(10, np.int16))
    with pytest.raises(InputError, match="the picture is 61 s behind"):
        both.add_audio(np.zeros(61 * 16_000, np.float32))
    for wrong in ({"width": 0}, {"frame_rate_hz": 0.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            pipe(io.BytesIO(), **{"width": 4, "height": 4, "frame_rate_hz": 25.0, **wrong})
    with pytest.raises(InputError, match="sampling_rate_hz"):
        pcm(io.BytesIO(), 0)


def test_devices_run_side_by_side_until_the_reader_stops(monkeypatch) -> None:
    graphs = {
        "alsa": "sine=frequency=440:sample_rate=44100:samples_per_frame=1024,arealtime",
        "v4l2": "testsrc=size=64x48:rate=25,realtime",
    }
    opened = []

    def fake(name: str, system: str) -> object:
        opened.append(name)
        return av.open(graphs[system], format="lavfi")

    monkeypatch.setattr(sources, "_opened", fake)
    monkeypatch.setattr(sources, "sys", types.SimpleNamespace(platform="linux"))
    before = threading.active_count()
    events = device("/dev/video7", "hw:1").events
    heard, times = 0, []
    for kind, value in events:
        if kind == "audio":
            heard += len(value)
        else:
            times.append(value.time_s)
            assert value.pixels.shape == (48, 64, 3)
        if len(times) > 20:
            break
    events.close()
    assert opened == ["hw:1", "/dev/video7"]
    assert times == sorted(set(times))
    assert heard / SAMPLING_RATE_HZ == pytest.approx(times[-1], abs=0.3)
    until_s = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < until_s:
        time.sleep(0.02)
    assert threading.active_count() == before


def test_a_device_that_ends_is_told_and_lost_sound_is_silence(monkeypatch) -> None:
    graphs = {"alsa": "sine=duration=0.3:sample_rate=16000", "v4l2": "testsrc=duration=0.2"}
    monkeypatch.setattr(
        sources, "_opened", lambda name, system: av.open(graphs[system], format="lavfi")
    )
    monkeypatch.setattr(sources, "sys", types.SimpleNamespace(platform="linux"))
    clock = iter([0.0, *(0.1 * k for k in range(1, 4)), *(5 + 0.1 * k for k in range(999))])
    monkeypatch.setattr(sources, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    events = list(device(None, "default"))
    assert events[-1] == ("audio", None)
    blocks = [value for _, value in events[:-1]]
    assert 5 < sum(map(len, blocks)) / SAMPLING_RATE_HZ < 6
    assert max(map(len, blocks)) > 4 * SAMPLING_RATE_HZ
    assert [kind for kind, _ in device("camera", None)].count("frame") == 6


def test_the_sound_system_is_told_where_its_configuration_lies(monkeypatch, tmp_path) -> None:
    if sys.platform != "linux" or "alsa" not in av.formats_available:
        pytest.skip("no ALSA")
    (tmp_path / "alsa.conf").write_text("pcm.quiet { type null }\n")
    monkeypatch.setenv("ALSA_CONFIG_DIR", "")  # so that it is put back afterwards
    monkeypatch.delenv("ALSA_CONFIG_DIR")
    monkeypatch.setattr(sources, "_ALSA_FOLDER", tmp_path)
    source = device(None, "quiet")
    assert next(source.events)[0] == "audio"  # of a device that has nothing to say
    source.events.close()


def test_devices_that_are_not_there(monkeypatch) -> None:
    with pytest.raises(InputError, match="neither"):
        device(None, None)
    if sys.platform == "linux":
        with pytest.raises(InputError, match=r"camera: /dev/none cannot be opened .*v4l2-ctl"):
            device("/dev/none", None)
    monkeypatch.setattr(sources, "sys", types.SimpleNamespace(platform="darwin"))
    with pytest.raises(InputError, match="expected Linux, got darwin"):
        device(str(Path("/dev/video0")))


@pytest.mark.parametrize(
    "samples", [[0.1], None, "x", 5, np.zeros(9, int), np.full(9, np.nan), np.zeros((2, 3))]
)
def test_sound_of_other_kinds(samples: Any) -> None:
    live = LiveRecognizer(vavl.load(), audio=True, video=False)
    with pytest.raises(InputError, match="samples: expected"):
        live.add_audio(samples)


PICTURE = np.zeros((48, 64, 3), np.uint8)


@pytest.mark.parametrize(
    "frame",
    [
        *(None, "x", PICTURE, VideoFrame(0.0, None), VideoFrame(0.0, PICTURE[:0])),
        *(VideoFrame(time_s, PICTURE) for time_s in ("0", math.nan, math.inf, -1.0, 601.0, 1e300)),
    ],
)
def test_frames_of_other_kinds(frame: Any) -> None:
    live = LiveRecognizer(vavl.load(), audio=False, video=True)
    with pytest.raises(InputError, match="frame: expected"):
        live.add_frame(frame)


def test_a_picture_that_stays_for_long_costs_little() -> None:
    live = LiveRecognizer(vavl.load(), audio=False, video=True)
    live.add_frame(VideoFrame(0.0, PICTURE))
    assert len(live.add_frame(VideoFrame(120.0, PICTURE))) > 200
    with pytest.raises(InputError, match=r"frame: expected a time from 0 s to 720\.000 s"):
        live.add_frame(VideoFrame(721.0, PICTURE))


def test_late_windows_are_noted(caplog: pytest.LogCaptureFixture) -> None:
    class Late:
        def follow(self, _: object) -> Iterator[tuple[None, float]]:
            yield from ((None, late_s) for late_s in (0.1, 2.5, 3.0, 4.9, 5.5, 0.2))

    seen: list[float] = []
    with patch("vavl.inference.live.LiveRecognizer", lambda *_, **__: Late()):
        run_stream(vavl.load(), LiveSource(True, False, iter(())), lambda _, s: seen.append(s))
    assert len(seen) == 6
    notes = [r.getMessage() for r in caplog.records if "windows" in r.getMessage()]
    assert [note.partition(" s late")[0] for note in notes] == [
        "windows come 2.5",
        "windows come 5.5",
    ]
