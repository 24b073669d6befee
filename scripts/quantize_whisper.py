"""Makes src/vavl/features/assets/whisper_base.safetensors from the weights of Whisper-base.

    python scripts/quantize_whisper.py FOLDER [--out FILE]

FOLDER holds ``model.safetensors`` of the encoder or of the whole model, as transformers saves it,
e.g. openai/whisper-base from the Hugging Face hub (MIT). Every matrix is stored in 8 bits with a
scale per row, everything else in half precision. The same weights give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from safetensors.torch import load, save

from vavl.features.whisper import LAYERS, SCALE_SUFFIX, sinusoids

OUT = Path(__file__).parents[1] / "src/vavl/features/assets/whisper_base.safetensors"
POSITIONS = "embed_positions.weight"


def first_layers(content: bytes) -> dict[str, torch.Tensor]:
    """The tensors of the convolutions, the positions and the first blocks, in single precision.

    Args:
        content: ``model.safetensors`` of the encoder, or of the whole model.
    """
    weights = {}
    for name, weight in load(content).items():
        name = name.removeprefix("model.").removeprefix("encoder.")
        block = int(name.split(".")[1]) if name.startswith("layers.") else 0
        if name.startswith(("conv", "embed_positions.", "layers.")) and block < LAYERS:
            weights[name] = weight.float()
    return weights


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``(rows, ...)`` to integers from -127 to 127, and the scale ``(rows,)`` of each row."""
    rows = weight.flatten(1).double()
    scale = rows.abs().amax(1) / 127
    steps = rows / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return steps.round().to(torch.int8).view(weight.shape), scale.float()


def packed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What goes into the file, by the names of transformers.

    Raises:
        SystemExit: The positions are not the sinusoids that vavl computes instead of storing them.
    """
    positions = weights[POSITIONS]
    if not torch.equal(positions.half().float(), sinusoids(*positions.shape)):
        raise SystemExit(f"{POSITIONS}: these are not Whisper's sinusoids")
    stored = {}
    for name, weight in weights.items():
        if weight.ndim == 1:
            stored[name] = weight.half()
        elif name != POSITIONS:
            stored[name], stored[name + SCALE_SUFFIX] = quantized(weight)
    return stored


def main() -> None:
    """Writes the file, and prints its size and hash."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with the original model.safetensors")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    source = (arguments.folder / "model.safetensors").read_bytes()
    content = save(packed(first_layers(source)))
    arguments.out.write_bytes(content)
    print(f"from {hashlib.sha256(source).hexdigest()}")
    print(f"{arguments.out}: {len(content):,} bytes, {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
