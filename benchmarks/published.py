"""The published implementation of VAVL, read from a checkout and trained as it trains itself.

Nothing of it is copied: its modules are imported from the path given, and its own classes make the
model, the optimizers, the forward passes, the backward passes and the losses. What is changed, all
of it at import time, because it reaches for what is not here:

- ``librosa``, ``pandas`` and ``tqdm``, where they are not installed, are replaced by empty modules:
  they read audio files and print tables, which no step of the training does.
- ``Wav2Vec2Model.from_pretrained`` (a download, moved to a GPU) gives a stand-in that hands the
  features of the batch on. What the encoder itself costs is timed apart.
- On a GPU, forward passes and losses are in the half precision of its training (autocast). On the
  CPU that does nothing there, so steps are in single precision, as ours are. Its scaler scales
  nothing anywhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WIDTHS = (1024, 1408)
"""Features per acoustic and per visual step, which the published modules fix."""

NOT_NEEDED = ("librosa", "pandas", "tqdm")
"""Imported by the published modules, and used by nothing that is timed."""


class GivenFeatures(nn.Module):
    """In place of the speech encoder: its input are the features."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList()

    @classmethod
    def from_pretrained(cls, _name: str) -> GivenFeatures:
        return cls()

    def freeze_feature_encoder(self) -> None:
        pass

    def to(self, *_device: Any, **_options: Any) -> GivenFeatures:
        return self

    def forward(self, x: Tensor, attention_mask: Tensor | None) -> types.SimpleNamespace:  # noqa: ARG002
        return types.SimpleNamespace(last_hidden_state=x)


def _stub_what_is_missing() -> None:
    importlib.import_module("transformers")  # which looks for them itself, and must not find ours
    for name in NOT_NEEDED:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].tqdm = iter  # type: ignore[attr-defined]


class Published:
    """The published model with its optimizers and losses.

    Args:
        checkout: Folder of ``ilucasgoncalves/VAVL``.
        categories: How many are told apart.
        device: Where it trains; its own is the first GPU.
    """

    def __init__(
        self, checkout: Path, categories: int = 6, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        source = checkout / "VAVL"
        if not (source / "net" / "modelWrapper.py").is_file():
            raise SystemExit(f"{checkout}: expected a checkout of ilucasgoncalves/VAVL")
        _stub_what_is_missing()
        sys.path.insert(0, str(source))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no GPU for its scaler, and its escape sequences
            self.losses: Any = importlib.import_module("utils.loss_manager")
            code: Any = importlib.import_module("net.modelWrapper")
            code.Wav2Vec2Model = GivenFeatures
            arguments = types.SimpleNamespace(  # run_cremad.sh
                device=self.device,
                model_type="wav2vec2-large-robust",
                label_type="categorical",
                label_learning="hard-label",
                hidden_dim=1024,
                num_layers=2,
                output_num=categories,
                out_dropout=0.2,
                lr=5e-5,
                model_path="",
            )
            self.model = code.ModelWrapper(arguments)
            self.model.init_model()
            self.model.init_optimizer()

    def take_steps(self, acoustic: Tensor, visual: Tensor, targets: Tensor) -> None:
        """What its training does with one batch: three forward, backward and optimizer steps.

        The visual and the acoustic branch each with their reconstruction, weighed by two; then the
        fusion layer, for which encoders and shared layers run a second time, without dropout but
        with gradients.

        Args:
            acoustic: ``(B, T_a, 1024)``, padded to the longest clip.
            visual: ``(B, T_v, 1408)``, likewise.
            targets: ``(B, C)`` one-hot.
        """
        model, losses = self.model, self.losses
        everywhere = torch.ones(len(acoustic), 1)  # of the waveform, for the encoder alone
        model.set_train()
        for mode, inputs in (("visual", (None, visual)), ("acoustic", (acoustic, None))):
            with self._autocast():
                said, target, rebuilt = model.feed_forward(
                    *inputs, mode=mode, attention_mask=everywhere
                )
                loss = losses.CE_category(said, targets) + 2 * losses.MSE_loss(rebuilt, target)
            model.backprop(loss, mode)
        with self._autocast():
            *_, said = model.feed_forward(
                acoustic, visual, mode="weights", attention_mask=everywhere
            )
            loss = losses.CE_category(said, targets)
        losses.calc_acc(said, targets)
        model.backprop(loss, "weights")

    def _autocast(self) -> torch.autocast:
        on_gpu = self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.float16 if on_gpu else None, enabled=on_gpu)


def speech_encoder() -> nn.Module:
    """wav2vec2-large-robust without its top 12 layers, with random weights, as transformers has it.

    The time of a forward pass does not depend on the weights.
    """
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=1024,
        num_hidden_layers=12,
        num_attention_heads=16,
        intermediate_size=4096,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    return Wav2Vec2Model(config).eval()
