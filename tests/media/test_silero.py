"""The network of voice activity gives what its library gives, however the frames come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from voices import babble

from vavl.media.silero import FRAME, Listener, SlowedListener

FRAMES = np.concatenate([np.zeros(FRAME, np.float32), babble(2)[: 60 * FRAME]]).reshape(-1, FRAME)


def test_probabilities_are_those_of_the_library() -> None:
    threads = torch.get_num_threads()
    import silero_vad

    model = silero_vad.load_silero_vad()
    torch.set_num_threads(threads)
    with torch.inference_mode():
        expected = [float(model(torch.from_numpy(frame), 16_000)) for frame in FRAMES]
    assert max(expected) > 0.9
    np.testing.assert_allclose(Listener()(FRAMES), expected, atol=1e-4)


def test_slowed_sound_is_heard_at_two_thirds_of_its_speed() -> None:
    sound = np.concatenate([[0], FRAMES.ravel()])
    times = np.arange(1, FRAMES.size * 3 // 2 + 1) * 2 / 3
    slowed = np.interp(times, np.arange(len(sound)), sound).astype(np.float32)
    found = Listener()(slowed[: len(slowed) // FRAME * FRAME].reshape(-1, FRAME))
    # Three frames of slowed sound end in two of the sound: one in the first, two in the second.
    pairs = found[: len(found) // 3 * 3].reshape(-1, 3)
    expected = np.stack([pairs[:, 0], pairs[:, 1:].max(axis=1)], axis=1).ravel()
    np.testing.assert_allclose(SlowedListener()(FRAMES)[: len(expected)], expected, atol=1e-4)


@pytest.mark.parametrize("kind", [Listener, SlowedListener])
def test_blocks_make_no_difference(kind: type[Listener]) -> None:
    whole, pieces = kind()(FRAMES), kind()
    parts = [pieces(part) for part in np.split(FRAMES, [1, 2, 2, 17])]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_what_is_forgotten_does_not_count() -> None:
    listener = SlowedListener()
    first = listener(FRAMES[3:20])
    listener.forget()
    np.testing.assert_allclose(listener(FRAMES[3:20]), first, atol=1e-5)
