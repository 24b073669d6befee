from __future__ import annotations

import hashlib
import json
import wave
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vavl.data.corpora import CORPORA, prepare
from vavl.data.corpora.synthetic import EMOTIONS, LOOKS_LIKE, RATERS, SOUNDS_LIKE, prepare_synthetic
from vavl.data.corpora.synthetic_face import ACTION_UNITS, draw_look, film
from vavl.data.manifest import Manifest, Utterance
from vavl.data.partition import speaker_kfold
from vavl.errors import InputError
from vavl.faces.detector import MtcnnDetector
from vavl.media.audio import audio_blocks
from vavl.media.video import video_frames


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepare_synthetic(tmp_path_factory.mktemp("synthetic"), video=False)


def sound(manifest: Manifest, utterance: Utterance) -> NDArray[np.float64]:
    with wave.open(str(manifest.path(utterance, "audio_path")), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def units(manifest: Manifest, utterance: Utterance) -> NDArray[np.float32]:
    return np.load(manifest.path(utterance, "visual_features_path"), allow_pickle=False)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_labels_of_every_kind(corpus: Manifest) -> None:
    assert Manifest.load(corpus.root / "manifest.parquet") == corpus
    assert corpus.missing_media() == []
    assert len(corpus) == 288
    assert len(corpus.speakers) == 12
    assert corpus.categories == tuple(sorted(EMOTIONS))
    assert corpus.attribute_names == ("arousal", "dominance", "valence")
    counts = Counter((u.speaker, u.category) for u in corpus)
    assert set(counts.values()) == {4}
    sexes = {u.speaker: u.metadata["sex"] for u in corpus}
    assert Counter(sexes.values()) == {"female": 6, "male": 6}
    for utterance in corpus:
        assert utterance.metadata["origin"] == "synthetic"
        assert sum(utterance.votes.values()) == RATERS
    # The raters mostly agree with what was intended, and not always.
    agreed = np.mean([u.votes[u.category] > RATERS / 2 for u in corpus])
    assert 0.6 < agreed < 1.0


def test_sound_and_face_files(corpus: Manifest) -> None:
    description = json.loads((corpus.root / "synthetic.json").read_text("utf-8"))
    assert description["visual_features"]["columns"] == list(ACTION_UNITS)
    levels = []
    for utterance in corpus:
        samples, face = sound(corpus, utterance), units(corpus, utterance)
        duration_s = len(samples) / 16_000
        assert 1.5 <= duration_s <= 3.0
        assert np.abs(samples).max() < 1
        assert abs(samples.mean()) < 0.01
        levels.append(np.sqrt(np.mean(samples**2)))
        assert face.dtype == np.float32
        assert face.shape == (round(duration_s * 25), 17)
        assert np.isfinite(face).all()
        assert face.min() >= 0
        assert face.max() <= 5
    assert min(levels) > 0.005  # audible


def test_women_speak_higher_and_speakers_differ(corpus: Manifest) -> None:
    def pitch_hz(utterance: Utterance) -> float:
        """The strongest period of 2.5 to 14 ms."""
        samples = sound(corpus, utterance)
        power = np.abs(np.fft.rfft(samples, 2 * len(samples))) ** 2
        correlation = np.fft.irfft(power)[40:225]
        return 16_000 / (40 + int(correlation.argmax()))

    by_speaker: dict[str, list[float]] = {}
    for utterance in corpus:
        if utterance.category == "neutral":
            by_speaker.setdefault(utterance.speaker, []).append(pitch_hz(utterance))
    medians = {speaker: float(np.median(values)) for speaker, values in by_speaker.items()}
    sex = {u.speaker: u.metadata["sex"] for u in corpus}
    women = [hz for speaker, hz in medians.items() if sex[speaker] == "female"]
    men = [hz for speaker, hz in medians.items() if sex[speaker] == "male"]
    assert np.mean(women) > 1.4 * np.mean(men)
    assert len({round(hz) for hz in medians.values()}) > 6


def test_the_mouth_moves_with_the_syllables(corpus: Manifest) -> None:
    jaw = ACTION_UNITS.index("AU26_r")
    agreement = []
    for utterance in corpus:
        samples, face = sound(corpus, utterance), units(corpus, utterance)
        loud = np.sqrt([np.mean(part**2) for part in np.array_split(samples, len(face))])
        agreement.append(np.corrcoef(loud, face[:, jaw])[0, 1])
    assert np.mean(agreement) > 0.3


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    size = {"speakers": 2, "clips_per_speaker": 2}
    first = prepare_synthetic(tmp_path / "first", **size)
    second = prepare_synthetic(tmp_path / "second", **size, workers=1)
    other = prepare_synthetic(tmp_path / "other", **size, seed=1)
    assert digests(first.root) == digests(second.root)
    assert first.sha256 == second.sha256 != other.sha256
    ours, theirs = digests(first.root), digests(other.root)
    # x264 writes its settings into the file. With threads, that depends on the number of CPUs.
    for video in first.root.glob("video/*.mp4"):
        assert b" threads=1 " in video.read_bytes() or "libx264" not in av.codecs_available
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in ours)


def test_a_larger_corpus_holds_the_smaller_one(tmp_path: Path) -> None:
    size = {"speakers": 2, "clips_per_speaker": 4, "video": False}
    small = prepare_synthetic(tmp_path / "small", **size | {"speakers": 1, "clips_per_speaker": 3})
    large = prepare_synthetic(tmp_path / "large", **size)
    assert list(small) == list(large.select([u.utterance_id for u in small]))
    ours, theirs = digests(small.root), digests(large.root)
    media = [name for name in ours if name.startswith(("audio/", "visual_features/"))]
    assert len(media) == 6
    assert all(ours[name] == theirs[name] for name in media)


def test_a_detector_finds_the_drawn_faces(tmp_path: Path) -> None:
    manifest = prepare_synthetic(tmp_path, speakers=4, clips_per_speaker=6)
    found = []
    for utterance in manifest:
        path = manifest.path(utterance, "video_path")
        assert path is not None
        frames = np.stack([frame.pixels for frame in video_frames(path, frame_rate_hz=2.5)])
        found += [len(faces) for faces in MtcnnDetector().detect(frames)]
    assert len(found) > 100
    assert np.mean(np.equal(found, 1)) >= 0.95


def test_a_video_has_the_sound_and_the_length_of_its_clip(tmp_path: Path) -> None:
    manifest = prepare_synthetic(tmp_path, speakers=1, clips_per_speaker=2)
    for utterance in manifest:
        path = manifest.path(utterance, "video_path")
        assert path is not None
        times_s = [frame.time_s for frame in video_frames(path)]
        assert len(times_s) == len(units(manifest, utterance))
        assert np.allclose(times_s, np.arange(len(times_s)) / 25, atol=1e-3)
        heard, meant = np.concatenate([*audio_blocks(path)]), sound(manifest, utterance)
        assert abs(len(heard) - len(meant)) < 0.1 * 16_000
        length = min(len(heard), len(meant))
        assert np.corrcoef(heard[:length], meant[:length])[0, 1] > 0.95


def test_a_smile_lifts_the_corners_of_the_mouth() -> None:
    look = draw_look(np.random.default_rng(0), female=False)
    rest = np.zeros((1, 17))
    smile = rest.copy()
    smile[0, ACTION_UNITS.index("AU12_r")] = 2
    pictures = [next(film(np.random.default_rng(1), look, u)).astype(int) for u in (rest, smile)]
    changed = np.abs(pictures[1] - pictures[0]).sum(2) > 30
    rows, columns = np.nonzero(changed)
    assert changed.any()
    assert rows.min() > 80  # below the eyes
    assert columns.min() < 80 < columns.max()  # on both sides


def test_bad_arguments_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        prepare_synthetic(tmp_path / "out", speakers=0, clips_per_speaker=-1, seed=-1)
    for name in ("speakers", "clips_per_speaker", "seed"):
        assert f"{name}: expected an integer" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_pair_is_confused_by_both_modalities() -> None:
    heard = {frozenset(pair) for pair in SOUNDS_LIKE.items()}
    seen = {frozenset(pair) for pair in LOOKS_LIKE.items()}
    assert not heard & seen
    assert frozenset().union(*heard) == frozenset().union(*seen) == set(EMOTIONS)


def test_corpora_are_found_by_name(tmp_path: Path) -> None:
    assert set(CORPORA) >= {"ravdess", "folder", "synthetic"}
    assert len(prepare("synthetic", out=tmp_path, speakers=1, clips_per_speaker=1)) == 1
    with pytest.raises(InputError, match="did you mean 'ravdess'"):
        prepare("ravdes", out=tmp_path)


def log_bands(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """A rough (T, 40) log spectrum, bands evenly spaced in mel."""
    samples = samples / samples.std()
    frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[::160] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges_hz = 700 * (10 ** (np.linspace(50, 2840, 41) / 2595) - 1)
    edges = np.maximum.accumulate((edges_hz / 8000 * 256).astype(int))
    return np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-4)


def test_both_modalities_together_beat_each_alone(corpus: Manifest) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def pooled(frames: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])

    voice = np.stack([pooled(log_bands(sound(corpus, u))) for u in corpus])
    face = np.stack([pooled(units(corpus, u)) for u in corpus])
    labels = np.array([u.category for u in corpus])
    row = {u.utterance_id: number for number, u in enumerate(corpus)}

    def accuracy(inputs: NDArray[np.floating]) -> float:
        correct = 0
        for part in speaker_kfold(corpus, folds=4, development_share=0, balance_by="sex"):
            train, test = [row[n] for n in part.train], [row[n] for n in part.test]
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=300))
            model.fit(inputs[train], labels[train])
            correct += int((model.predict(inputs[test]) == labels[test]).sum())
        return correct / len(labels)

    acoustic, visual = accuracy(voice), accuracy(face)
    audiovisual = accuracy(np.hstack([voice, face]))
    # Neither trivial nor hopeless alone (chance is 0.17), and clearly better together.
    assert 0.5 < acoustic < 0.85
    assert 0.5 < visual < 0.85
    assert audiovisual > max(acoustic, visual) + 0.08
