"""The device that a network runs on."""

from __future__ import annotations

import torch

from vavl.errors import InputError


def usable_device(name: str) -> torch.device:
    """The device of a name: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        InputError: It cannot be used here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"device: {name!r} cannot be used here ({reason}); expected auto, cpu, cuda, cuda:N or "
            "mps"
        ) from None
    return device
