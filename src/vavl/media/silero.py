"""The network of Silero VAD, frames in blocks: how probable it is that each is speech.

The library takes one frame a call, and most of its time goes into the calls. Here all frames of a
block go through the convolutions at once, and their features through the recurrent cell one after
another: the same probabilities in a tenth of the time.

Source: Silero Team, "Silero VAD", 2024, https://github.com/snakers4/silero-vad (MIT).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

FRAME = 512
"""Samples that are judged together: 32 ms at 16 kHz."""

_CONTEXT, _MIRRORED = 64, 64
"""Samples before a frame that are seen with it, and after it, where its end is mirrored."""
_WINDOW, _HOP = 256, 128
_WIDTH = 128
_STRIDES = (1, 2, 2, 1)
_AT_ONCE = 512
"""Frames of one pass: bounds the memory."""


class Listener:
    """Hears one sound frame by frame, and remembers what came before.

    Example:
        >>> bool(Listener()(np.zeros((3, FRAME), np.float32)).max() < 0.1)
        True
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """What comes next is judged as if the sound began there."""
        self._before = np.zeros(_CONTEXT, np.float32)
        self._state: tuple[Tensor, Tensor] | None = None

    def __call__(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability ``(n,)`` that each of ``(n, 512)`` samples is speech, given all before.

        The samples are at 16 kHz; speech has the level of a telephone.
        """
        parts = np.split(frames, range(_AT_ONCE, len(frames), _AT_ONCE))
        return np.concatenate([self._judged(part) for part in parts])

    def _judged(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        if not len(frames):
            return np.zeros(0, np.float32)
        contexts = np.concatenate([self._before[None], frames[:-1, -_CONTEXT:]])
        self._before = frames[-1, -_CONTEXT:].copy()
        network = _network()
        with torch.inference_mode():
            features = network.features(torch.from_numpy(np.concatenate([contexts, frames], 1)))
            hidden, self._state = network.memory(features, self._state)
            return torch.sigmoid(hidden.relu() @ network.weight + network.bias).numpy()


class SlowedListener(Listener):
    """The same, of the sound played at two thirds of its speed.

    The network misses shrill voices: screams and whimpers lie in the range it knows when slowed.
    """

    def forget(self) -> None:
        """What comes next is judged as if the sound began there."""
        super().forget()
        self._last = np.float32(0)  # the sample before the frame
        self._rest = np.zeros(0, np.float32)  # of the slowed sound, less than a frame

    def __call__(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """The largest probability of the one or two slowed frames that each frame completes."""
        around = np.concatenate([[self._last], frames.ravel()])
        self._last = around[-1]
        between = np.arange(1, frames.size * 3 // 2 + 1) * 2 / 3
        slowed = np.interp(between, np.arange(len(around)), around).astype(np.float32)
        sound = np.concatenate([self._rest, slowed])
        half = len(self._rest) > 0  # half a frame is left after every other frame
        whole = len(sound) // FRAME * FRAME
        self._rest = sound[whole:]
        found = super().__call__(sound[:whole].reshape(-1, FRAME))
        complete = (np.arange(len(frames) + 1) * 3 + half) // 2
        return np.maximum(found[complete[:-1]], found[complete[1:] - 1])


class _Network(NamedTuple):
    """What all listeners share.

    Attributes:
        basis: ``(256, 258)`` cosines, then sines.
        convolutions: Weight ``(3 * C, C')`` and bias of each.
        memory: The recurrent cell.
        weight: ``(128,)`` of the last layer.
        bias: Its bias.
    """

    basis: Tensor
    convolutions: list[tuple[Tensor, Tensor]]
    memory: nn.LSTM
    weight: Tensor
    bias: Tensor

    def features(self, frames: Tensor) -> Tensor:
        """``(n, 64 + 512)`` samples to ``(n, 128)``."""
        x = F.pad(frames[None], (0, _MIRRORED), mode="reflect")[0]
        cosines, sines = (x.unfold(1, _WINDOW, _HOP) @ self.basis).chunk(2, dim=-1)
        x = (cosines.square() + sines.square()).sqrt()  # (n, 4, 129)
        for (weight, bias), stride in zip(self.convolutions, _STRIDES, strict=True):
            around = F.pad(x, (0, 0, 1, 1)).unfold(1, 3, stride)  # (n, T, C, 3)
            x = (around.flatten(2) @ weight + bias).relu()
        return x[:, 0]


@cache
def _network() -> _Network:
    """Read once in a process, from the library."""
    threads = torch.get_num_threads()
    import silero_vad

    torch.set_num_threads(threads)  # the import sets one thread for everybody
    weights = {
        name.removeprefix("_model."): tensor.detach()
        for name, tensor in silero_vad.load_silero_vad().state_dict().items()
    }
    memory = nn.LSTM(_WIDTH, _WIDTH)
    memory.load_state_dict(
        {
            f"{name}_l0": weights[f"decoder.rnn.{name}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
    )
    layers = (f"encoder.{number}.reparam_conv." for number in range(len(_STRIDES)))
    return _Network(
        weights["stft.forward_basis_buffer"][:, 0].T.contiguous(),
        [
            (weights[f"{layer}weight"].flatten(1).T.contiguous(), weights[f"{layer}bias"])
            for layer in layers
        ],
        memory.requires_grad_(False),
        weights["decoder.decoder.2.weight"][0, :, 0],
        weights["decoder.decoder.2.bias"],
    )
