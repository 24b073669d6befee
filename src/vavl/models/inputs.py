"""What a model is given, checked: shapes, lengths or masks, finite numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from vavl.config.models import ModelConfig
from vavl.errors import InputError
from vavl.models.conformer import lengths_to_mask
from vavl.types import Modality


def checked_batch(
    config: ModelConfig,
    acoustic: Tensor | None = None,
    acoustic_lengths: Tensor | None = None,
    visual: Tensor | None = None,
    visual_lengths: Tensor | None = None,
    *,
    acoustic_mask: Tensor | None = None,
    visual_mask: Tensor | None = None,
) -> dict[Modality, tuple[Tensor, Tensor]]:
    """What a batch has of each modality; the arguments are those of a model.

    Returns:
        By modality: ``(B, T, D)``, finite everywhere, and its mask ``(B, T)``; B is the same.

    Raises:
        InputError: As :meth:`vavl.models.base.EmotionModel.forward`.
    """
    inputs: dict[Modality, tuple[Tensor, Tensor]] = {}
    for modality, x, lengths, mask in (
        (Modality.ACOUSTIC, acoustic, acoustic_lengths, acoustic_mask),
        (Modality.VISUAL, visual, visual_lengths, visual_mask),
    ):
        if x is not None:
            inputs[modality] = checked_sequences(config, modality, x, lengths, mask)
    if not inputs:
        raise InputError("acoustic, visual: expected at least one sequence, got neither")
    sizes = {len(x) for x, _ in inputs.values()}
    if len(sizes) > 1:
        raise InputError(f"acoustic, visual: expected the same number of clips, got {sizes}")
    if 0 in sizes:
        raise InputError("acoustic, visual: expected at least one clip, got an empty batch")
    empty = ~torch.stack([mask.any(1) for _, mask in inputs.values()]).any(0)
    if empty.any():
        raise InputError(
            f"acoustic, visual: clip {int(torch.nonzero(empty)[0])} of the batch has neither "
            "sound nor face; leave it out"
        )
    return inputs


def checked_sequences(
    config: ModelConfig,
    modality: Modality,
    x: Tensor,
    lengths: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The sequences of a batch and their mask.

    Args:
        config: Of the model.
        modality: ``acoustic`` or ``visual``.
        x: ``(B, T, D)``.
        lengths: ``(B,)`` valid steps, or None.
        mask: ``(B, T)``, True = valid, or None. With neither, all steps are valid.

    Returns:
        ``(B, T, D)``, finite everywhere, and ``(B, T)``.

    Raises:
        InputError: What does not fit.
    """
    if modality not in config.inputs:
        raise InputError(f"{modality}: this model was trained without {modality} features")
    dim = config.dim(modality)
    if x.ndim != 3 or x.shape[2] != dim:
        raise InputError(
            f"{modality}: expected (B, T, {dim}), got {tuple(x.shape)}; were these features "
            "extracted with another extractor than the model was trained on?"
        )
    if mask is None:
        mask = _mask_of_lengths(modality, x, lengths)
    elif lengths is not None:
        raise InputError(f"{modality}_lengths, {modality}_mask: expected one of them, got both")
    elif mask.shape != x.shape[:2] or mask.dtype != torch.bool:
        raise InputError(
            f"{modality}_mask: expected booleans of shape {tuple(x.shape[:2])}, got {mask.dtype} "
            f"of shape {tuple(mask.shape)}"
        )
    mask = mask.to(x.device)
    if not x.sum().isfinite():  # a sum is finite only if all its terms are: one quick pass
        finite = x.isfinite().all(-1)
        bad = mask & ~finite
        if bad.any():
            clip, step = torch.nonzero(bad)[0].tolist()
            raise InputError(
                f"{modality}: expected finite features, got NaN or infinity in clip {clip} of the "
                f"batch at step {step}; extract this clip again or leave it out"
            )
        # Where nothing is valid anything may stand, but a NaN times a gradient of 0 is a NaN.
        x = x.masked_fill(~mask[..., None], 0.0)
    return x, mask


def _mask_of_lengths(modality: Modality, x: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if lengths.shape != (len(x),) or lengths.is_floating_point():
        raise InputError(
            f"{modality}_lengths: expected {len(x)} whole numbers of shape ({len(x)},), got "
            f"{lengths.dtype} of shape {tuple(lengths.shape)}"
        )
    if len(lengths) and (int(lengths.min()) < 0 or int(lengths.max()) > x.shape[1]):
        raise InputError(
            f"{modality}_lengths: expected values from 0 to {x.shape[1]}, the steps of "
            f"{modality}, got {lengths.tolist()}"
        )
    return lengths_to_mask(lengths.to(x.device), x.shape[1])
