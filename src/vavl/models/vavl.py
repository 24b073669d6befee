"""The VAVL model: one network for sound and face, sound alone, or face alone.

Source: Goncalves, Leem, Lin, Sisman and Busso, "Versatile Audio-Visual Learning for Emotion
Recognition" (arXiv 2305.07216).

For each modality m: ``z = Conformer_m(P_m X)``, ``s = LayerNorm(Shared(z) + z)``, ``r = mean of s
over the valid steps``, a prediction ``MLP_m(r)`` and a reconstruction ``MLP_rec_m(r)`` of the mean
input. With both modalities, ``MLP_av([r_a ; r_v])`` predicts from the two.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vavl.config import VAVLConfig
from vavl.models.branches import ModalityBranch, SharedLayers
from vavl.models.conformer import masked_mean, multilayer_perceptron
from vavl.models.inputs import checked_batch
from vavl.models.outputs import (
    StreamOutput,
    VAVLOutput,
    paired_representations,
    present_modality,
    spread_rows,
)
from vavl.models.pretrained import load_weights, read_model_config, resolve_model, write_model
from vavl.types import STREAMS, Modality


class VAVL(nn.Module):
    """Versatile audio-visual learning: see the module's docstring and :class:`VAVLConfig`.

    Example:
        >>> import torch, vavl
        >>> config = vavl.VAVLConfig.preset(
        ...     "small", acoustic_dim=80, visual_dim=17, categories=["happy", "sad"]
        ... )
        >>> model = vavl.VAVL(config).eval()
        >>> out = model(acoustic=torch.randn(1, 200, 80), acoustic_lengths=torch.tensor([200]))
        >>> out.prediction.shape, out.modality[0].value
        (torch.Size([1, 2]), 'acoustic')
    """

    def __init__(self, config: VAVLConfig) -> None:
        super().__init__()
        self.config = config
        self.acoustic = ModalityBranch(config, Modality.ACOUSTIC)
        self.visual = ModalityBranch(config, Modality.VISUAL)
        self.shared = SharedLayers(config)
        self.fusion = multilayer_perceptron(
            (2 * config.width, *config.head_widths, config.outputs), config.head_dropout
        )

    def branch(self, modality: Modality) -> ModalityBranch:
        """The part of the model that belongs to one modality alone."""
        return self.acoustic if modality is Modality.ACOUSTIC else self.visual

    def set_normalisation(self, modality: Modality, mean: Tensor, std: Tensor) -> None:
        """Stores the per-dimension statistics of the training speakers' features.

        Args:
            modality: ``acoustic`` or ``visual``.
            mean: ``(D,)``.
            std: ``(D,)``; dimensions that never vary are left unscaled.
        """
        projection = self.branch(modality).projection
        std = std.to(projection.scale)
        projection.mean.copy_(mean)
        projection.scale.copy_(torch.where(std > 1e-6, 1.0 / std.clamp_min(1e-6), 1.0))

    def normalise(self, modality: Modality, x: Tensor) -> Tensor:
        """Features as extracted, ``(B, T, D)``, to zero mean and unit variance."""
        return self.branch(modality).projection.normalise(x)

    def represent(self, modality: Modality, x: Tensor, mask: Tensor) -> Tensor:
        """Mean shared representation of sequences of one modality.

        Args:
            modality: ``acoustic`` or ``visual``.
            x: ``(B, T, D)`` normalised features, finite in the padding too.
            mask: ``(B, T)``, True = valid; at least one valid step per clip.

        Returns:
            ``(B, width)``.
        """
        branch = self.branch(modality)
        x, mask = branch.projection(x, mask)
        z = branch.encoder(x, mask)
        return masked_mean(self.shared(z, mask, STREAMS.index(modality)), mask)

    def forward_stream(self, modality: Modality, x: Tensor, mask: Tensor) -> StreamOutput | None:
        """Runs one modality's branch on the clips of a batch that have this modality.

        Args:
            modality: ``acoustic`` or ``visual``.
            x: ``(B, T, D)`` features as extracted.
            mask: ``(B, T)``, True = valid; all False for a clip without this modality.

        Returns:
            The branch's output, or None if no clip has this modality.
        """
        x, mask, rows = self.present(modality, x, mask)
        if not len(rows):
            return None
        return self.forward_normalised(modality, x, mask, rows)

    def present(self, modality: Modality, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised sequences of those clips of a batch that have a modality.

        Args:
            modality: ``acoustic`` or ``visual``.
            x: ``(B, T, D)`` features as extracted.
            mask: ``(B, T)``, True = valid; all False for a clip without this modality.

        Returns:
            ``(n, t, D)`` normalised, cut to the last step that is valid in any clip; ``(n, t)``;
            and ``(n,)`` places of the clips in the batch. n may be 0.
        """
        rows = torch.nonzero(mask.any(1)).flatten()
        steps = int(torch.nonzero(mask.any(0)).max()) + 1 if len(rows) else 0
        if len(rows) < len(mask):
            x, mask = x[rows], mask[rows]
        return self.normalise(modality, x[:, :steps].float()), mask[:, :steps], rows

    def forward_normalised(
        self,
        modality: Modality,
        x: Tensor,
        mask: Tensor,
        rows: Tensor,
        target: Tensor | None = None,
    ) -> StreamOutput:
        """As :meth:`forward_stream`, for normalised features of clips that all have them.

        Args:
            modality: ``acoustic`` or ``visual``.
            x: ``(n, T, D)`` normalised features.
            mask: ``(n, T)``, True = valid; at least one valid step per clip.
            rows: ``(n,)`` places of the clips in the batch.
            target: ``(n, D)`` what the reconstruction aims at; None is the mean of ``x``.
        """
        branch = self.branch(modality)
        representation = self.represent(modality, x, mask)
        return StreamOutput(
            rows=rows,
            prediction=branch.head(representation),
            representation=representation,
            reconstruction=branch.reconstruction(representation),
            target=masked_mean(x, mask) if target is None else target,
        )

    def fuse(self, acoustic: Tensor, visual: Tensor) -> Tensor:
        """Audio-visual prediction ``(B, outputs)`` from two representations ``(B, width)``."""
        return self.fusion(torch.cat([acoustic, visual], dim=-1))

    def forward(
        self,
        acoustic: Tensor | None = None,
        acoustic_lengths: Tensor | None = None,
        visual: Tensor | None = None,
        visual_lengths: Tensor | None = None,
        *,
        acoustic_mask: Tensor | None = None,
        visual_mask: Tensor | None = None,
    ) -> VAVLOutput:
        """Predicts from whatever each clip of a batch has.

        Args:
            acoustic: ``(B, T_a, acoustic_dim)`` features as extracted, or None.
            acoustic_lengths: ``(B,)`` valid steps; 0 = this clip has no sound. None: all steps of
                all clips are valid.
            visual: ``(B, T_v, visual_dim)`` features as extracted, or None.
            visual_lengths: ``(B,)`` valid steps; 0 = this clip has no face. None: all valid.
            acoustic_mask: ``(B, T_a)`` instead of lengths, True = valid: for sequences with gaps,
                which keep their place in time.
            visual_mask: ``(B, T_v)`` likewise, e.g. False where the face is out of sight.

        Returns:
            Predictions and reconstructions, see :class:`VAVLOutput`.

        Raises:
            InputError: Wrong shape or dimension, lengths out of range, a clip without any
                modality, or features that are not finite.
        """
        inputs = checked_batch(
            self.config,
            acoustic,
            acoustic_lengths,
            visual,
            visual_lengths,
            acoustic_mask=acoustic_mask,
            visual_mask=visual_mask,
        )
        streams = {
            modality: stream
            for modality, (x, mask) in inputs.items()
            if (stream := self.forward_stream(modality, x, mask)) is not None
        }
        return self.combine(streams, len(next(iter(inputs.values()))[0]))

    def combine(self, streams: dict[Modality, StreamOutput], batch: int) -> VAVLOutput:
        """Puts the branches' outputs together for B clips, and fuses those that have both."""
        rows = {modality: stream.rows.tolist() for modality, stream in streams.items()}
        modality = [present_modality(index, rows) for index in range(batch)]
        fused_rows, representations = paired_representations(streams)
        learned = Modality.AUDIOVISUAL in self.config.predictions
        fused = self.fuse(*representations) if len(fused_rows) and learned else None

        def spread(name: str, modality: Modality) -> Tensor | None:
            if modality not in streams:
                return None
            stream = streams[modality]
            return spread_rows(getattr(stream, name), stream.rows, batch)

        first = next(iter(streams.values())).prediction
        prediction = first.new_empty(batch, first.shape[1])
        for stream in streams.values():
            prediction = prediction.index_copy(0, stream.rows, stream.prediction)
        if fused is not None:
            prediction = prediction.index_copy(0, fused_rows, fused)
        elif len(fused_rows):
            parts = [s.prediction[torch.isin(s.rows, fused_rows)] for s in streams.values()]
            prediction = prediction.index_copy(0, fused_rows, self.average(*parts))
        return VAVLOutput(
            acoustic=spread("prediction", Modality.ACOUSTIC),
            visual=spread("prediction", Modality.VISUAL),
            audiovisual=None if fused is None else spread_rows(fused, fused_rows, batch),
            acoustic_reconstruction=spread("reconstruction", Modality.ACOUSTIC),
            visual_reconstruction=spread("reconstruction", Modality.VISUAL),
            prediction=prediction,
            modality=modality,
        )

    def average(self, *parts: Tensor) -> Tensor:
        """Mean of predictions ``(n, outputs)``: of probabilities, and of attributes."""
        split = len(self.config.categories)
        log_mean = torch.stack([p[:, :split].log_softmax(1) for p in parts]).logsumexp(0)
        attributes = torch.stack([p[:, split:] for p in parts]).mean(0)
        return torch.cat([log_mean, attributes], dim=1)

    def save_pretrained(self, directory: Path | str) -> None:
        """Writes ``config.json`` and ``model.safetensors`` into a folder, made if needed."""
        write_model(Path(directory), self.config, self.state_dict())

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str,
        *,
        revision: str | None = None,
        cache_dir: Path | str | None = None,
        local_files_only: bool = False,
    ) -> VAVL:
        """Loads a model from a folder or from the Hugging Face hub, in evaluation mode.

        Args:
            source: Folder written by :meth:`save_pretrained`, or a hub id ``"owner/name"``.
            revision: Branch, tag or commit on the hub; pin a commit for reproducible work.
            cache_dir: Where downloads are kept; None is the hub library's default.
            local_files_only: Never ask the network (``HF_HUB_OFFLINE=1`` does the same).

        Raises:
            StoreError: No such folder or hub id, a damaged file, weights that do not fit the
                configuration, or a schema version this release does not read.
        """
        folder = resolve_model(
            source, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only
        )
        model = cls(read_model_config(folder))
        load_weights(model, folder)
        return model.eval()
