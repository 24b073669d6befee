"""Reading sound: exact where nothing is resampled, and an error with file and reason otherwise."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import pytest

from vavl.errors import InputError, MediaError
from vavl.media.audio import audio_blocks, level_dbfs, read_audio, resample


def encode(
    path: Path, samples: np.ndarray, codec: str, rate: int = 16_000, pictures: int = 0
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if pictures:
            picture = container.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 32
            for _ in range(pictures):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout="mono",
            rate=rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return path


def tone(frequency_hz: float, duration_s: float, sampling_rate_hz: int = 16_000) -> np.ndarray:
    times = np.arange(round(duration_s * sampling_rate_hz)) / sampling_rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


def halve(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_samples_are_exact_without_resampling(write_wav, noise) -> None:
    samples = noise(1.0)
    read = read_audio(write_wav(samples))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, samples)


def test_channels_are_averaged(write_wav, noise) -> None:
    left, right = noise(0.5, seed=1), noise(0.5, seed=2)
    read = read_audio(write_wav(np.stack([left, right], axis=1)))
    np.testing.assert_allclose(read, (left + right) / 2, atol=1e-7)


def test_full_scale_stereo_stays_in_range(write_wav) -> None:
    loud = np.ones((1000, 2)) * 32767 / 32768
    assert np.abs(read_audio(write_wav(loud))).max() <= 1.0


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(write_wav, rate_hz: int) -> None:
    read = read_audio(write_wav(tone(440, 1.0, rate_hz), sampling_rate_hz=rate_hz))
    assert abs(len(read) - 16_000) <= 1
    middle = slice(1_000, 15_000)  # the filter of the resampler settles at both ends
    np.testing.assert_allclose(read[middle], tone(440, 1.0)[: len(read)][middle], atol=2e-3)


def test_a_waveform_is_resampled_as_a_file_is(write_wav, noise) -> None:
    samples = noise(0.5)
    path = write_wav(samples, sampling_rate_hz=8_000)
    np.testing.assert_allclose(resample(samples, 8_000), read_audio(path), atol=1e-6)
    np.testing.assert_array_equal(resample(samples, 16_000), samples)
    with pytest.raises(InputError, match="sampling_rate_hz"):
        resample(samples, 0)


@pytest.mark.parametrize(
    ("start_s", "end_s"), [(None, 0.25), (0.3, None), (0.1001, 0.2002), (0.5, 99.0), (0.0, 1.0)]
)
def test_a_part_is_selected_by_sample(write_wav, noise, start_s, end_s) -> None:
    samples = noise(1.0)
    first = round((start_s or 0) * 16_000)
    stop = None if end_s is None else round(end_s * 16_000)
    read = read_audio(write_wav(samples), start_s=start_s, end_s=end_s)
    np.testing.assert_array_equal(read, samples[first:stop])


def test_blocks_are_what_is_read_at_once(write_wav, noise) -> None:
    path = write_wav(noise(2.0))
    blocks = list(audio_blocks(path, start_s=0.2, end_s=1.7))
    assert len(blocks) > 1
    assert all(len(block) for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(path, start_s=0.2, end_s=1.7))


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("a.flac", "flac", 16_000),
        ("a.mp3", "libmp3lame", 16_000),
        ("a.m4a", "aac", 16_000),
        ("a.opus", "libopus", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.flv", "aac", 44_100),
    ],
)
def test_formats(tmp_path: Path, name: str, codec: str, rate_hz: int) -> None:
    read = read_audio(encode(tmp_path / name, tone(440, 1.0), codec, rate_hz))
    assert len(read) / 16_000 == pytest.approx(1.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(read[2_000:10_000]))
    assert np.argmax(spectrum) * 16_000 / 8_000 == pytest.approx(440, abs=2)


def test_the_sound_of_a_video_is_read(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", tone(300, 0.5), "aac", pictures=5)
    assert len(read_audio(path)) / 16_000 == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", ["long.mkv", "long.mp4"])
def test_a_sound_shorter_than_its_video_is_not_truncated(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, tone(300, 1.0), "aac", pictures=50)  # five seconds
    assert len(read_audio(path)) / 16_000 == pytest.approx(1.0, abs=0.1)


def no_file(folder: Path) -> Path:
    return folder / "missing.wav"


def a_folder(folder: Path) -> Path:
    return folder


def zero_bytes(folder: Path) -> Path:
    (folder / "empty.wav").write_bytes(b"")
    return folder / "empty.wav"


def random_bytes(folder: Path) -> Path:
    path = folder / "random.wav"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    return path


def a_text(folder: Path) -> Path:
    path = folder / "text.wav"
    path.write_text("this is no sound\n" * 100)
    return path


def a_silent_film(folder: Path) -> Path:
    path = folder / "film.mp4"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
    return path


def no_samples(folder: Path) -> Path:
    path = folder / "none.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
    return path


def half_a_wav(folder: Path) -> Path:
    return halve(encode(folder / "half.wav", tone(440, 2.0), "pcm_s16le"))


def half_a_flac(folder: Path) -> Path:
    return halve(encode(folder / "half.flac", tone(440, 2.0), "flac"))


def half_an_m4a(folder: Path) -> Path:
    return halve(encode(folder / "half.m4a", tone(440, 2.0), "aac"))


def half_a_webm(folder: Path) -> Path:
    return halve(encode(folder / "half.webm", tone(440, 2.0), "libopus", 48_000))


def not_a_number(folder: Path) -> Path:
    return encode(folder / "nan.wav", np.full(1000, np.nan), "pcm_f32le")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (no_file, "does not exist"),
        (a_folder, "folder"),
        (zero_bytes, "0 bytes"),
        (random_bytes, "not a media file"),
        (a_text, "not a media file"),
        (a_silent_film, "no audio track"),
        (no_samples, "empty"),
        (half_a_wav, "truncated"),
        (half_a_flac, "damaged"),
        (half_an_m4a, "damaged"),
        (half_a_webm, "truncated"),
        (not_a_number, "NaN"),
    ],
)
def test_errors_name_file_and_reason(tmp_path: Path, make, reason: str) -> None:
    path = make(tmp_path)
    with pytest.raises(MediaError) as error:
        read_audio(path)
    assert str(path) in str(error.value)
    assert reason in str(error.value)


def test_the_intact_part_of_a_truncated_file_can_be_selected(tmp_path: Path) -> None:
    assert len(read_audio(half_a_wav(tmp_path), end_s=0.5)) == 8_000
    with pytest.raises(MediaError, match="truncated"):
        read_audio(tmp_path / "half.wav", end_s=1.5)


def test_a_selection_beyond_the_end_says_how_long_the_file_is(write_wav, noise) -> None:
    with pytest.raises(MediaError, match=r"nothing lies between start_s=2\.0.*1\.000 s long"):
        read_audio(write_wav(noise(1.0)), start_s=2.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"start_s": -1.0},
        {"start_s": float("nan")},
        {"end_s": 0.0},
        {"start_s": 2.0, "end_s": 1.0},
        {"end_s": float("inf")},
    ],
)
def test_times_that_make_no_sense(write_wav, noise, arguments) -> None:
    with pytest.raises(InputError, match=r"start_s|end_s"):
        read_audio(write_wav(noise(0.1)), **arguments)


@pytest.mark.shared
def test_real_files(shared: Path) -> None:
    video = read_audio(shared / "samples" / "single_face.mp4")
    assert len(video) / 16_000 == pytest.approx(2.4, abs=0.1)
    assert 0 < np.abs(video).max() <= 1
    silent = read_audio(shared / "samples" / "WolfgangLanger_Pexels.mp4")
    assert len(silent) / 16_000 == pytest.approx(19.7, abs=0.1)
    assert not silent.any()


def test_a_constant_voltage_has_no_level() -> None:
    swing = np.array([0.1, -0.1] * 50, np.float32)
    assert level_dbfs(swing) == pytest.approx(-20)
    assert level_dbfs(swing + np.float32(0.5)) == pytest.approx(-20)
    assert level_dbfs(np.full(100, 0.5, np.float32)) == -np.inf
    assert level_dbfs(np.zeros(0, np.float32)) == -np.inf


@pytest.mark.parametrize("channels", [3, 6, 8, 9, 33, 64])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_voice_in_one_of_many_channels_is_heard(write_wav, channels: int, rate_hz: int) -> None:
    sound = np.zeros((rate_hz // 2, channels), np.float32)
    sound[:, channels - 1] = tone(440, 0.5, rate_hz)
    read = read_audio(write_wav(sound, sampling_rate_hz=rate_hz))
    alone = read_audio(write_wav(sound[:, channels - 1], sampling_rate_hz=rate_hz))
    np.testing.assert_allclose(channels * read, alone, atol=1e-4)


@pytest.mark.parametrize("channels", [65, 255, 1000])
def test_more_channels_than_ffmpeg_decodes(write_wav, channels: int) -> None:
    path = write_wav(np.zeros((800, channels), np.float32))
    with pytest.raises(MediaError, match=r"clip\.wav: the audio track has .* channels.*at most 64"):
        read_audio(path)


def test_channels_that_cancel_are_not_mixed(write_wav, noise) -> None:
    sound = noise(0.5)
    twisted = np.stack([0.5 * sound, -0.45 * sound], axis=1)
    np.testing.assert_allclose(read_audio(write_wav(twisted)), 0.5 * sound, atol=1e-4)
    # Next to nothing on one side is ordinary, and so are two voices, or one of six channels alone.
    nothing = np.zeros_like(sound)
    for others in ([nothing], [noise(0.5, seed=1)], [0.3 * sound], [nothing] * 5):
        stereo = np.stack([sound, *others], axis=1).astype(np.float32)
        mixed = read_audio(write_wav(stereo, "stereo.wav"))
        np.testing.assert_allclose(mixed, stereo.mean(axis=1), atol=1e-4)
