"""Extractors by name, and from the specification of what they once made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vavl.errors import InputError
from vavl.features.logmel import LogMel
from vavl.features.registry import (
    build_extractor,
    extractor_names,
    rebuild_extractor,
    register_extractor,
)
from vavl.types import FeatureSpec, Modality


def test_every_listed_name_can_be_built(tiny_encoder: Callable[..., Path]) -> None:
    folder = str(tiny_encoder("Wav2Vec2Model"))
    assert extractor_names("visual")[:4] == (
        *("compact-face", "efficientnet-b2-affectnet", "arrays"),
        "hf:ID_OR_FOLDER",
    )
    for name in extractor_names("acoustic")[:5]:
        if name == "wav2vec2-large-robust-12":  # needs its own architecture: refuses the tiny one
            with pytest.raises(InputError, match="at least 12 layers"):
                build_extractor("acoustic", name, source=folder)
        else:
            given = {"dim": 3} if name == "arrays" else {}
            name = name.replace("ID_OR_FOLDER", folder)
            assert build_extractor("acoustic", name, **given).spec.modality == "acoustic"


@pytest.mark.parametrize(
    ("modality", "name", "parameters"),
    [
        ("acoustic", "logmel", {"normalization": "corpus", "corpus_mean": 0.1, "corpus_std": 2}),
        ("acoustic", "logmel", {"max_duration_s": 3}),
        ("acoustic", "arrays", {"dim": 88, "content": "egemaps"}),
        ("visual", "arrays", {"dim": 35, "frame_rate_hz": 25}),
    ],
)
def test_a_specification_rebuilds_its_extractor(modality, name, parameters) -> None:
    spec = build_extractor(modality, name, **parameters).spec
    stored = FeatureSpec.from_dict(spec.to_dict())
    assert rebuild_extractor(stored).spec == spec


def test_an_encoder_is_rebuilt_with_its_layer_and_from_another_folder(
    tiny_encoder: Callable[..., Path], tmp_path: Path, noise
) -> None:
    original = tmp_path / "original"
    shutil.copytree(tiny_encoder("Wav2Vec2Model"), original)
    encoder = build_extractor("acoustic", f"hf:{original}", layer=1, max_duration_s=0.2)
    features = encoder.extract(noise(0.3))
    np.testing.assert_array_equal(rebuild_extractor(encoder.spec).extract(noise(0.3)), features)

    original.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="original"):
        rebuild_extractor(encoder.spec)
    moved = rebuild_extractor(encoder.spec, source=str(tmp_path / "moved"))
    np.testing.assert_array_equal(moved.extract(noise(0.3)), features)

    other = tiny_encoder("HubertModel")
    with pytest.raises(InputError, match="would not be the same") as error:
        rebuild_extractor(encoder.spec, source=str(other))
    assert encoder.spec.weights_sha256[:12] in str(error.value)
    assert str(other) in str(error.value)


def test_features_of_another_version_are_not_taken_for_the_same() -> None:
    spec = build_extractor("acoustic", "logmel").spec
    parameters = {**spec.parameters, "floor": 1e-9}
    older = FeatureSpec(spec.modality, spec.extractor, spec.dim, spec.frame_rate_hz, parameters)
    with pytest.raises(InputError, match="would not be the same"):
        rebuild_extractor(older)
    with pytest.raises(InputError, match="'mfcc' is not known"):
        rebuild_extractor(FeatureSpec(Modality.ACOUSTIC, "mfcc", 13, 100.0))


@pytest.mark.parametrize(
    ("modality", "name", "parameters", "parts"),
    [
        ("acoustic", "logmell", {}, ["'logmell'", "did you mean 'logmel'", "hf:ID_OR_FOLDER"]),
        ("visual", "logmel", {}, ["for visual", "arrays"]),
        ("audiovisual", "logmel", {}, ["modality"]),
        ("acoustic", "logmel", {"normalisation": "none"}, ["did you mean 'normalization'"]),
        ("acoustic", "logmel", {"a": 1, "b": 2}, ["2 problems", "a:", "b:", "max_duration_s"]),
        ("acoustic", "hf:./missing", {}, ["./missing"]),
        ("acoustic", "hf", {}, ["hf:ID_OR_FOLDER"]),
        ("acoustic", "logmel:a/folder", {}, ["source: not a parameter"]),
    ],
)
def test_what_is_unknown_is_named_with_what_is_near(modality, name, parameters, parts) -> None:
    with pytest.raises(InputError) as error:
        build_extractor(modality, name, **parameters)
    for part in parts:
        assert part in str(error.value)


class Ones(LogMel):
    """An extractor of a user."""

    name = "ones"

    def __init__(self, source: str, gain: float = 1.0) -> None:
        super().__init__()
        parameters = {**self.spec.parameters, "gain": gain}
        self.spec = replace(self.spec, source=source, parameters=parameters)


def test_an_extractor_of_ones_own_is_built_and_rebuilt_by_its_name() -> None:
    register_extractor("acoustic", "ones", Ones)
    assert "ones:ID_OR_FOLDER" in extractor_names("acoustic")
    spec = build_extractor("acoustic", "ones:somewhere", gain=2).spec
    assert (spec.extractor, spec.source, spec.parameters["gain"]) == ("ones", "somewhere", 2)
    assert rebuild_extractor(spec).spec == spec
    with pytest.raises(InputError, match="expected ones:ID_OR_FOLDER, got no id"):
        build_extractor("acoustic", "ones")
    with pytest.raises(InputError, match=r"(?s)gains: not a parameter.*did you mean 'gain'"):
        build_extractor("acoustic", "ones:somewhere", gains=2)


@pytest.mark.parametrize("name", ["logmel", "", "my:own"])
def test_names_that_cannot_be_registered(name: str) -> None:
    with pytest.raises(InputError, match="expected one of your own"):
        register_extractor("acoustic", name, Ones)
    with pytest.raises(InputError, match="modality"):
        register_extractor("audiovisual", "ones", Ones)


def test_options_without_names_are_refused() -> None:
    register_extractor("acoustic", "nameless", lambda **options: LogMel())
    with pytest.raises(InputError, match=r"expected \*\*options: Unpack"):
        build_extractor("acoustic", "nameless")
