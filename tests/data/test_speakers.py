"""Statistics of a speaker: exact, each clip counted once, shrunk to the training's, and saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vavl.data.speakers import Moments, SpeakerProfile, pooled, towards_training, training_moments
from vavl.errors import InputError, StoreError
from vavl.types import FeatureSpec, Modality

RNG = np.random.default_rng(0)
MEAN, STD = np.array([1.0, -2.0, 0.0]), np.array([2.0, 0.5, 1.0])


def clips(count: int, steps: int) -> list[np.ndarray]:
    return [RNG.normal(3.0, 2.0, (steps, 3)) for _ in range(count)]


def of(sequences: list[np.ndarray]) -> Moments:
    return pooled(map(Moments.of_clip, sequences), 3)


def test_clips_of_one_length_have_the_moments_of_all_their_steps() -> None:
    sequences = clips(7, 11)
    found = of(sequences)
    steps = np.concatenate(sequences)
    assert found.clips == 7
    np.testing.assert_allclose(found.mean, steps.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.variance, steps.var(0), rtol=1e-12)


def test_a_long_clip_counts_as_much_as_a_short_one() -> None:
    short, long = clips(1, 2)[0], clips(1, 500)[0]
    found = of([short, long])
    np.testing.assert_allclose(found.mean, (short.mean(0) + long.mean(0)) / 2)
    squares = [(np.square(c - found.mean)).mean(0) for c in (short, long)]
    np.testing.assert_allclose(found.variance, np.mean(squares, axis=0))


def test_sequences_of_one_step_have_the_variance_between_them() -> None:
    sequences = clips(9, 1)
    steps = np.concatenate(sequences)
    np.testing.assert_allclose(of(sequences).mean, steps.mean(0))
    np.testing.assert_allclose(of(sequences).variance, steps.var(0))
    # And one alone has none, and still gives something to divide by.
    mapped = towards_training(sequences[0], of(sequences[:1]), training_moments(MEAN, STD))
    assert np.isfinite(mapped).all()


def test_large_offsets_do_not_cancel() -> None:
    sequences = [clip + 1e8 for clip in clips(50, 4)]
    steps = np.concatenate(sequences)
    np.testing.assert_allclose(of(sequences).variance, steps.var(0), rtol=1e-6)


def test_unknown_steps_are_passed_over() -> None:
    frames = clips(1, 5)[0]
    gaps = np.insert(frames, 2, np.nan, axis=0)
    np.testing.assert_array_equal(Moments.of_clip(gaps).mean, Moments.of_clip(frames).mean)
    training = training_moments(MEAN, STD)
    mapped = towards_training(gaps, Moments.of_clip(frames), training)
    assert np.isnan(mapped[2]).all()
    assert np.isfinite(np.delete(mapped, 2, axis=0)).all()


def test_shrinkage_goes_from_the_training_statistics_to_the_speaker() -> None:
    speaker = of(clips(4, 10))
    training = training_moments(MEAN, STD, clips=4)
    half = speaker + training
    np.testing.assert_allclose(half.mean, (speaker.mean + MEAN) / 2)
    np.testing.assert_allclose(
        half.variance, (speaker.variance + STD**2) / 2 + (speaker.mean - MEAN) ** 2 / 4
    )
    nothing = Moments.nothing(3) + training
    np.testing.assert_array_equal(nothing.mean, MEAN)
    np.testing.assert_array_equal(nothing.std, STD)
    many = Moments(1e12, speaker.mean, speaker.variance) + training
    np.testing.assert_allclose(many.mean, speaker.mean)
    np.testing.assert_allclose(many.variance, speaker.variance)


def test_features_arrive_where_the_training_speakers_lie() -> None:
    sequences = clips(5, 20)
    training = training_moments(MEAN, STD)
    unknown = towards_training(sequences[0], Moments.nothing(3), training)
    np.testing.assert_allclose(unknown, sequences[0], rtol=1e-6)
    speaker = of(sequences)
    sure = Moments(1e12, speaker.mean, speaker.variance)
    mapped = of([towards_training(clip, sure, training) for clip in sequences])
    np.testing.assert_allclose(mapped.mean, MEAN, atol=1e-5)
    np.testing.assert_allclose(mapped.std, STD, rtol=1e-5)


def test_a_dimension_that_never_varies_stays_finite() -> None:
    training = training_moments(np.zeros(3), np.zeros(3))
    mapped = towards_training(np.ones((2, 3)), Moments(3.0, np.zeros(3), np.zeros(3)), training)
    assert np.isfinite(mapped).all()


@pytest.mark.parametrize(
    "frames", [np.ones(3), np.ones((0, 3)), np.full((2, 3), np.nan), np.array([[1.0, np.inf]])]
)
def test_what_is_no_sequence_is_refused(frames: np.ndarray) -> None:
    with pytest.raises(InputError, match="frames: expected"):
        Moments.of_clip(frames)


def test_a_prior_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="more than 0 clips"):
        training_moments(MEAN, STD, clips=0)


SOUND, FACE = Modality.ACOUSTIC, Modality.VISUAL
SPECS = {SOUND: FeatureSpec(SOUND, "logmel", 4, 100.0), FACE: FeatureSpec(FACE, "arrays", 3, None)}


@pytest.fixture
def profile() -> SpeakerProfile:
    """Three clips with sound, two of them with a face of one step."""
    made = SpeakerProfile("Ann Ü")
    for face in (True, False, True):
        clip = {SOUND: RNG.normal(size=(9, 4)), FACE: RNG.normal(size=(1, 3))}
        made = made.with_clip(clip if face else {SOUND: clip[SOUND]}, SPECS)
    return made


def test_what_is_saved_is_loaded(profile: SpeakerProfile, tmp_path: Path) -> None:
    path = tmp_path / "ann.safetensors"
    profile.save(path)
    loaded = SpeakerProfile.load(path)
    assert (loaded.speaker, loaded.extractors) == (profile.speaker, profile.extractors)
    assert [loaded.clips(m) for m in (SOUND, FACE)] == [3, 2]
    assert loaded.key == profile.key
    for modality, moments in profile.moments.items():
        np.testing.assert_array_equal(loaded.moments[modality].mean, moments.mean)
        np.testing.assert_array_equal(loaded.moments[modality].variance, moments.variance)
    # It goes on where it was left, as if it had never been a file.
    clip = {SOUND: RNG.normal(size=(5, 4))}
    assert loaded.with_clip(clip, SPECS).key == profile.with_clip(clip, SPECS).key != profile.key


def test_features_of_another_extractor_are_refused(profile: SpeakerProfile) -> None:
    other = {SOUND: FeatureSpec(SOUND, "logmel", 4, 50.0)}
    with pytest.raises(InputError, match="acoustic: made by another extractor"):
        profile.with_clip({SOUND: np.ones((2, 4))}, other)
    with pytest.raises(InputError, match="acoustic: made by another extractor"):
        profile.with_clip({SOUND: np.ones((2, 4))}, {})
    with pytest.raises(InputError, match=r"(?s)expected 4 .* got 5.*expected 3 .* got 2"):
        profile.with_clip({SOUND: np.ones((2, 5)), FACE: np.ones((2, 2))}, SPECS)


def test_an_empty_profile_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one clip"):
        SpeakerProfile("ann").save(tmp_path / "ann.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_is_no_profile_is_refused(profile: SpeakerProfile, tmp_path: Path) -> None:
    path = tmp_path / "ann.safetensors"
    with pytest.raises(InputError, match="does not exist"):
        SpeakerProfile.load(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(StoreError, match="not a readable profile"):
        SpeakerProfile.load(path)
    save_file({"weight": np.ones(3)}, path)
    with pytest.raises(StoreError, match="no profile of a speaker"):
        SpeakerProfile.load(path)
    profile.save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StoreError, match="not a readable profile"):
        SpeakerProfile.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema version 1, got 2"),
        ({"streams": {"acoustic": {"extractor": None}}}, "damaged"),
        ({"streams": {"smell": {"extractor": None, "clips": 1}}}, "damaged"),
        ({"streams": {"acoustic": {"extractor": None, "clips": 0}}}, "make no sense"),
        ({"streams": []}, "damaged"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(
    profile: SpeakerProfile, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "ann.safetensors"
    profile.save(path)
    header = {"schema_version": 1, "speaker": "ann", "streams": {}} | change
    save_file(load_file(path), path, metadata={"profile": json.dumps(header)})
    with pytest.raises(StoreError, match=message):
        SpeakerProfile.load(path)


def test_statistics_that_make_no_sense_are_refused(profile: SpeakerProfile, tmp_path: Path) -> None:
    path = tmp_path / "ann.safetensors"
    profile.save(path)
    header = {"streams": {"acoustic": {"extractor": None, "clips": 1}}, "speaker": "ann"}
    metadata = {"profile": json.dumps({"schema_version": 1, **header})}
    for mean, variance in (([0.0], [-1.0]), ([np.nan], [1.0]), ([0.0, 0.0], [1.0])):
        tensors = {"acoustic.mean": np.array(mean), "acoustic.variance": np.array(variance)}
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(StoreError, match="make no sense"):
            SpeakerProfile.load(path)
