"""Profiles: what is written is read, and what is no profile, or another's, is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vavl.data.speakers import SpeakerProfile
from vavl.errors import InputError, StoreError
from vavl.types import FeatureSpec, Modality

SOUND, FACE = Modality.ACOUSTIC, Modality.VISUAL
SPECS = {SOUND: FeatureSpec(SOUND, "logmel", 4, 100.0), FACE: FeatureSpec(FACE, "arrays", 3, None)}
RNG = np.random.default_rng(0)


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
