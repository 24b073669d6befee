"""The device that a network runs on, and how exactly it computes there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch

from vavl.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]
"""Of products and convolutions; sums and normalisation are in single precision whatever it is."""

CPU = torch.device("cpu")


def usable_device(name: str) -> torch.device:
    """The device of a name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Names of the same device give equal devices: ``cuda`` is that with its number.

    Raises:
        InputError: It cannot be used here.
    """
    if name == "cpu":
        return CPU
    try:
        if name == "auto":
            device = torch.accelerator.current_accelerator(check_available=True) or CPU
        else:
            device = torch.device(name)
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"device: {name!r} cannot be used here ({reason}); expected auto, cpu, cuda, cuda:N or "
            "mps"
        ) from None


@contextmanager
def inference(device: torch.device, precision: Precision = "float32") -> Iterator[None]:
    """Inside, nothing is kept for gradients, and single precision means it on a GPU too.

    There, convolutions round to 10 bits by default (TF32), which a feature would show. Settings of
    this process are as before afterwards.

    Example:
        >>> with inference(CPU, "bfloat16"):
        ...     torch.nn.Linear(2, 3)(torch.zeros(1, 2)).dtype
        torch.bfloat16
    """
    with ExitStack() as settings:
        settings.enter_context(torch.inference_mode())
        if device.type == "cuda":
            cudnn = torch.backends.cudnn
            unchanged = ("enabled", "benchmark", "deterministic")
            kept = {name: getattr(cudnn, name) for name in unchanged}
            settings.enter_context(cudnn.flags(**kept, allow_tf32=False))
        if precision != "float32":
            settings.enter_context(torch.autocast(device.type, getattr(torch, precision)))
        yield
