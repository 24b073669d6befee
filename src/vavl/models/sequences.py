"""Clips of a batch that have a modality: their sequences, and what is predicted from them.

A batch holds clips with sound, with a face, or with both. Whatever concerns some of its clips is a
:class:`Clips`: the places of these clips in the batch, and a row of each tensor for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vavl.config.models import ModelConfig
from vavl.errors import InputError
from vavl.models.conformer import lengths_to_mask
from vavl.types import STREAMS, Inputs, Modality


@dataclass(frozen=True)
class Clips:
    """Some clips of a batch, n of them. Subclasses add tensors with a row for each.

    Attributes:
        rows: ``(n,)`` their places in the batch, ascending.
    """

    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, keep: Tensor) -> Self:
        """Some of the clips: those at places among the n, or those where ``(n,)`` is True."""
        return self._changed(lambda part: part[keep])

    def detach(self) -> Self:
        """The same, cut off from the graph."""
        return self._changed(Tensor.detach)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: change(part) for n, part in parts.items() if part is not None})


@dataclass(frozen=True)
class Sequences(Clips):
    """Normalised sequences of the clips that have a modality.

    Attributes:
        x: ``(n, T, D)``; what stands where ``mask`` is False does not matter, but is finite.
        mask: ``(n, T)``, True = valid; at least one valid step per clip.
        clean: ``(n, T, D)`` what ``x`` was before masking and noise; None where it had none.
        summary: ``(n, S)`` what a model computed of each clip as a whole before it was augmented;
            of blended clips a blend. None where the model has no use for it.
    """

    x: Tensor
    mask: Tensor
    clean: Tensor | None = None
    summary: Tensor | None = None

    @classmethod
    def whole(cls, x: Tensor, mask: Tensor) -> Self:
        """Sequences ``(B, T, D)`` with mask ``(B, T)`` of all clips of a batch."""
        return cls(torch.arange(x.shape[0], device=x.device), x, mask)


@dataclass(frozen=True)
class Predicted(Clips):
    """What is predicted for some clips.

    Attributes:
        values: ``(n, outputs)`` category logits, then attributes.
    """

    values: Tensor


Pair = tuple[Sequences, Sequences]
"""Sound and face of the same clips, in the same order."""

AnyClips = TypeVar("AnyClips", bound=Clips)


def in_common(*parts: AnyClips) -> list[AnyClips]:
    """Of each part those clips that are in all of them, in the same order; perhaps none."""
    rows = parts[0].rows
    for part in parts[1:]:
        rows = rows[torch.isin(rows, part.rows)]
    return [part.at(torch.isin(part.rows, rows)) for part in parts]


def checked_batch(
    dims: Mapping[Modality, int],
    acoustic: Tensor | None = None,
    acoustic_lengths: Tensor | None = None,
    visual: Tensor | None = None,
    visual_lengths: Tensor | None = None,
    *,
    acoustic_mask: Tensor | None = None,
    visual_mask: Tensor | None = None,
) -> Inputs:
    """What a batch has of each modality, finite everywhere; arguments and errors of a model's call.

    ``dims`` are the modalities that the model reads, and the numbers per step that it takes. See
    :meth:`vavl.models.base.EmotionModel.forward`.
    """
    inputs: Inputs = {}
    for modality, x, lengths, mask in (
        (Modality.ACOUSTIC, acoustic, acoustic_lengths, acoustic_mask),
        (Modality.VISUAL, visual, visual_lengths, visual_mask),
    ):
        if x is not None:
            inputs[modality] = _checked_modality(dims, modality, x, lengths, mask)
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


def _checked_modality(
    dims: Mapping[Modality, int],
    modality: Modality,
    x: Tensor,
    lengths: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The sequences of one modality, finite everywhere, and their mask."""
    if modality not in dims:
        raise InputError(f"{modality}: this model was trained without {modality} features")
    dim = dims[modality]
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


def drop_modalities(
    sequences: Mapping[Modality, Sequences], chance: float
) -> dict[Modality, Sequences]:
    """Takes the sound or the face, evenly, from some of the clips that have both.

    A modality that no clip keeps stays, with no clips.
    """
    if len(sequences) < len(STREAMS):
        return dict(sequences)
    acoustic, visual = (sequences[modality] for modality in STREAMS)
    both = acoustic.rows[torch.isin(acoustic.rows, visual.rows)]
    draw = torch.rand(len(both), device=both.device)
    return {
        Modality.ACOUSTIC: acoustic.at(~torch.isin(acoustic.rows, both[draw < chance / 2])),
        Modality.VISUAL: visual.at(~torch.isin(visual.rows, both[draw >= 1 - chance / 2])),
    }


def completed(sequences: Mapping[Modality, Sequences], config: ModelConfig) -> Pair:
    """Sound and face of all clips, with one step of zeros where a clip lacks one of them.

    Zero is the mean of normalised features. One step and not as many as a clip usually has: nobody
    knows how long a sequence is that is not there.
    """
    rows = torch.unique(torch.cat([part.rows for part in sequences.values()]))  # ascending
    like = next(iter(sequences.values()))
    whole = []
    for modality in STREAMS:
        part = sequences.get(modality)
        steps = part.x.shape[1] if part else 1
        x = like.x.new_zeros(len(rows), steps, config.dim(modality))
        mask = like.mask.new_zeros(len(rows), steps)
        mask[:, 0] = True
        if part:
            places = torch.searchsorted(rows, part.rows)
            x = x.index_copy(0, places, part.x)
            mask = mask.index_copy(0, places, part.mask)
        whole.append(Sequences(rows, x, mask))
    return whole[0], whole[1]


def subsampled(
    sequences: Mapping[Modality, Sequences], config: ModelConfig
) -> dict[Modality, Sequences]:
    """Joins neighbouring steps into their mean over the valid ones, as the configuration says."""
    return {m: _averaged(part, config.subsampling(m)) for m, part in sequences.items()}


def _averaged(part: Sequences, step: int) -> Sequences:
    """``(n, T, D)`` to ``(n, ceil(T / step), D)``; a mean is valid if one of its steps is."""
    if step == 1:
        return part
    missing = -part.x.shape[1] % step
    x = F.pad(part.x.masked_fill(~part.mask[..., None], 0.0), (0, 0, 0, missing))
    clips, steps, dim = x.shape
    mask = F.pad(part.mask, (0, missing)).view(clips, steps // step, step)
    total = x.view(clips, steps // step, step, dim).sum(2)
    mean = total / mask.sum(2, keepdim=True).clamp_min(1)
    return Sequences(part.rows, mean, mask.any(2))


def last_valid(mask: Tensor) -> Tensor:
    """``(n, T)`` to ``(n,)`` index of the last valid step."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    return (mask * steps).amax(1)


def last_step(x: Tensor, mask: Tensor) -> Tensor:
    """``(n, T, width)`` to ``(n, width)``: the last valid step of each clip."""
    return x[torch.arange(len(x), device=x.device), last_valid(mask)]


def average_values(values: Sequence[Tensor], config: ModelConfig) -> Tensor:
    """Mean of outputs ``(n, outputs)``: of probabilities, and of attributes."""
    split = len(config.categories)
    log_sum = torch.stack([v[:, :split].log_softmax(1) for v in values]).logsumexp(0)
    attributes = torch.stack([v[:, split:] for v in values]).mean(0)
    return torch.cat([log_sum, attributes], dim=1)


def product_values(values: Sequence[Tensor], config: ModelConfig) -> Tensor:
    """Product of outputs ``(n, outputs)``: of probabilities, as logits; of attributes the mean."""
    split = len(config.categories)
    logits = torch.stack([v[:, :split].log_softmax(1) for v in values]).sum(0)
    attributes = torch.stack([v[:, split:] for v in values]).mean(0)
    return torch.cat([logits, attributes], dim=1)


def average(parts: Sequence[Predicted], config: ModelConfig) -> Predicted:
    """Mean of predictions for the clips that have them all: of probabilities, and of attributes."""
    common = in_common(*parts)
    return Predicted(common[0].rows, average_values([part.values for part in common], config))


def mean_outputs(parts: Sequence[Predicted]) -> Predicted:
    """Mean of logits and attributes for the clips that have all predictions."""
    common = in_common(*parts)
    return Predicted(common[0].rows, torch.stack([part.values for part in common]).mean(0))
