"""The whole way of a clip on a device: the answers are those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from pretend_device import DEVICE, NAME, pretend_device
from voices import babble

import vavl
from vavl.data.corpora.synthetic_drawing import draw_look, film

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def clip() -> dict[str, np.ndarray]:
    """Something like speech, and a drawn face."""
    generator = np.random.default_rng(1)
    face = film(generator, draw_look(generator, female=True), np.zeros((12, 17)))
    return {"audio": babble(1.0), "frames": np.stack(list(face))}


def assert_same_answers(found: vavl.Prediction, expected: vavl.Prediction, within: float) -> None:
    assert found.modality == expected.modality == "audiovisual"
    assert found.probabilities == pytest.approx(expected.probabilities, abs=within)


def test_model_and_extractors_are_on_the_device_of_the_recogniser(clip) -> None:
    expected = vavl.load().predict(**clip)
    with pretend_device() as mode:
        there = vavl.load(device=NAME)
        assert there.device == DEVICE
        assert there.reader.acoustic_extractor.device == NAME
        assert there.reader.visual_extractor.embedder.device == NAME
        assert_same_answers(there.predict(**clip), expected, 1e-5)
    assert mode.operations > 500


@pytest.mark.cuda
def test_on_a_gpu_the_answers_are_the_same(clip, cuda: str) -> None:
    assert_same_answers(vavl.load(device=cuda).predict(**clip), vavl.load().predict(**clip), 1e-3)
