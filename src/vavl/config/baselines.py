"""Sizes of the models that VAVL is compared with; each is described in :mod:`vavl.models`.

The defaults are the published ones where there are some. Importing this module does not import
torch.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vavl.config.models import (
    SMALL_CONFORMER,
    ConformerConfig,
    ConformerSizes,
    Count,
    ModelConfig,
    Presets,
    Sizes,
    Width,
    width_problems,
)
from vavl.types import Modality

_TOGETHER = (Modality.AUDIOVISUAL,)


class LinearSizes(Sizes):
    """Linear models of mean and deviation over time."""

    presets: ClassVar[Presets] = {"paper": {}, "small": {}}

    name: Literal["linear"] = "linear"
    inverse_penalty: float = Field(default=0.03, gt=0)
    """How little large weights cost, as ``C`` of scikit-learn; it is VAVL+'s."""

    @property
    def solved_beforehand(self) -> bool:
        """As both linear models are."""
        return True


class LinearConfig(LinearSizes, ModelConfig):
    """What the linear models are built from."""


class DeepConformerSizes(ConformerSizes):
    """Sizes of conformers as deep as VAVL's encoder and shared layers together."""

    presets: ClassVar[Presets] = {"paper": {}, "small": {**SMALL_CONFORMER, "blocks": 2}}

    blocks: Count = 5
    """Conformer blocks of each encoder."""


class ConformersSizes(DeepConformerSizes):
    """Conformers that share nothing: one for each modality that is read."""


class ConformersConfig(ConformersSizes, ConformerConfig):
    """What conformers that share nothing are built from."""


class AcousticConformerSizes(ConformersSizes):
    """Sound alone."""

    name: Literal["acoustic-conformer"] = "acoustic-conformer"
    predictions: tuple[Modality, ...] = (Modality.ACOUSTIC,)


class AcousticConformerConfig(AcousticConformerSizes, ConformersConfig):
    """What the acoustic conformer is built from."""


class VisualConformerSizes(ConformersSizes):
    """The face alone."""

    name: Literal["visual-conformer"] = "visual-conformer"
    predictions: tuple[Modality, ...] = (Modality.VISUAL,)


class VisualConformerConfig(VisualConformerSizes, ConformersConfig):
    """What the visual conformer is built from."""


class AveragingSizes(ConformersSizes):
    """Late fusion: both of them side by side, and the average of their predictions."""

    name: Literal["averaging"] = "averaging"


class AveragingConfig(AveragingSizes, ConformersConfig):
    """What late fusion is built from."""


class ConcatenationSizes(DeepConformerSizes):
    """Early fusion: one conformer over frames of both modalities."""

    name: Literal["concatenation"] = "concatenation"
    predictions: tuple[Modality, ...] = _TOGETHER


class ConcatenationConfig(ConcatenationSizes, ConformerConfig):
    """What early fusion is built from."""


class CrossmodalSizes(Sizes):
    """Sizes of transformers whose queries are of one modality and whose keys are of the other."""

    width: Width = 30
    """Width of the transformers."""
    layers: Count = 5
    """Layers of each transformer."""
    heads: Count = 5
    """Attention heads; must divide ``width``."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of attention weights, hidden units and layers."""
    embedding_dropout: float = Field(default=0.25, ge=0, lt=1)
    """Dropout of what enters a transformer."""
    head_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in the prediction heads."""

    def _problems(self) -> list[str]:
        return [*super()._problems(), *width_problems(self.width, self.heads)]


class CrossmodalConfig(CrossmodalSizes, ModelConfig):
    """What a model of crossmodal transformers is built from."""


class MulTSizes(CrossmodalSizes):
    """Sizes of MulT."""

    presets: ClassVar[Presets] = {
        "paper": {},
        "small": {"acoustic_subsampling": 4, "width": 64, "layers": 2, "heads": 4, "dropout": 0.2},
    }

    name: Literal["mult"] = "mult"
    predictions: tuple[Modality, ...] = _TOGETHER


class MulTConfig(MulTSizes, CrossmodalConfig):
    """What MulT is built from."""


class AuxFormerSizes(CrossmodalSizes):
    """Sizes of AuxFormer."""

    presets: ClassVar[Presets] = {
        "paper": {},
        "small": {
            "acoustic_subsampling": 4,
            "width": 64,
            "layers": 2,
            "heads": 4,
            "dropout": 0.2,
            "auxiliary_widths": (128, 64),
            "head_dropout": 0.3,
        },
    }

    name: Literal["auxformer"] = "auxformer"
    width: Width = 50
    heads: Count = 10
    auxiliary_widths: tuple[Width, Width] = (512, 256)
    """Hidden widths of the head that the auxiliary networks share."""
    head_dropout: float = Field(default=0.2, ge=0, lt=1)
    missing_share: float = Field(default=0.4, ge=0, lt=1)
    """Chance that a paired clip loses one modality (either, evenly) in the main network's step."""


class AuxFormerConfig(AuxFormerSizes, CrossmodalConfig):
    """What AuxFormer is built from."""


class UAVMSizes(Sizes):
    """Sizes of UAVM."""

    presets: ClassVar[Presets] = {
        "paper": {},
        "small": {
            "acoustic_subsampling": 4,
            "width": 128,
            "encoder_layers": 1,
            "shared_layers": 1,
            "dropout": 0.2,
        },
    }

    name: Literal["uavm"] = "uavm"
    width: Width = 1024
    """Width of the transformers."""
    encoder_layers: int = Field(default=3, ge=0, le=256)
    """Transformer layers of each modality; 0 goes to the shared ones at once."""
    shared_layers: Count = 3
    """Transformer layers common to both modalities."""
    heads: Count = 4
    """Attention heads; must divide ``width``."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of hidden units and layers; the published model has none."""

    def _problems(self) -> list[str]:
        return [*super()._problems(), *width_problems(self.width, self.heads)]


class UAVMConfig(UAVMSizes, ModelConfig):
    """What UAVM is built from."""


class SFAVSizes(Sizes):
    """Sizes of SFAV."""

    presets: ClassVar[Presets] = {"paper": {}, "small": {"acoustic_subsampling": 4}}

    name: Literal["sfav"] = "sfav"
    acoustic_channels: tuple[Width, Width, Width, Width] = (64, 128, 256, 128)
    """Channels of the four acoustic convolutions; attention stands between the second and third."""
    visual_channels: tuple[Width, Width, Width, Width] = (64, 64, 128, 128)
    """Channels of the four visual convolutions."""
    kernel: Count = 3
    """Taps of the convolutions, odd."""
    heads: Count = 1
    """Attention heads; must divide the second convolution's channels of both modalities."""

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.kernel % 2 == 0:
            problems.append(f"kernel: expected an odd number of taps, got {self.kernel}")
        for name in ("acoustic_channels", "visual_channels"):
            channels = getattr(self, name)
            if min(channels) < 1 or channels[1] % self.heads:
                problems.append(
                    f"{name}: expected channels of which the second is a multiple of "
                    f"heads={self.heads}, got {channels}"
                )
        return problems


class SFAVConfig(SFAVSizes, ModelConfig):
    """What SFAV is built from."""
