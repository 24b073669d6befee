"""Mean and deviation of a clip's features over time, and linear models of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vavl.models.base import EmotionModel, TaskLoss
from vavl.models.conformer import masked_mean
from vavl.models.sequences import Sequences
from vavl.types import Inputs, Modality


class StatisticsHead(nn.Module):
    """A linear model of the mean and the standard deviation of the input over time.

    On frozen features of a small corpus it is hard to beat, and it errs elsewhere than conformers
    do. It has no gradients: :meth:`fit` solves it as a whole, and it predicts zeros
    until then.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, 2 * dim))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, statistics: Tensor) -> Tensor:
        """Maps ``(B, 2 D)``, see :func:`input_statistics`, to ``(B, outputs)``."""
        return F.linear(statistics, self.weight, self.bias)

    def fit(
        self, statistics: Tensor, places: Tensor, add_task_loss: TaskLoss, inverse_penalty: float
    ) -> None:
        """Solves for the weights: task loss plus an L2 penalty on the weights of scaled inputs.

        A logistic regression (of attributes: a linear one, by the loss that they are trained by).
        It is convex and small, so that it is solved here in one go; by the steps of the network's
        optimizer it ends up clearly worse.

        Args:
            statistics: ``(n, 2 D)`` of training clips.
            places: ``(n,)`` of these clips, for ``add_task_loss``.
            add_task_loss: Of outputs of these clips.
            inverse_penalty: As ``C`` of scikit-learn's LogisticRegression.
        """
        mean, deviation = statistics.mean(0), statistics.std(0, correction=0)
        scale = torch.where(deviation > 1e-6, 1 / deviation, 0.0)  # 0: it never varies
        scaled = (statistics - mean) * scale
        weight = torch.zeros_like(self.weight, requires_grad=True)
        bias = torch.zeros_like(self.bias, requires_grad=True)
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-5
        )

        def loss() -> Tensor:
            solver.zero_grad()
            penalty = weight.square().sum() / (2 * inverse_penalty * len(scaled))
            total = add_task_loss(penalty, F.linear(scaled, weight, bias), places)
            total.backward()  # type: ignore[no-untyped-call]
            return total

        with torch.enable_grad():
            solver.step(loss)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.weight.copy_(weight * scale)
            self.bias.copy_(bias - self.weight @ mean)


def input_statistics(x: Tensor, mask: Tensor) -> Tensor:
    """``(B, 2 D)`` mean and standard deviation of ``(B, T, D)`` over the valid steps ``(B, T)``."""
    mean = masked_mean(x, mask)
    # First to zero what is not valid, then squared: it may be NaN, or too large for that.
    apart = (x - mean[:, None]).masked_fill_(~mask[..., None], 0.0)
    deviation = (apart.square_().sum(1) / mask.sum(1, keepdim=True)).sqrt()
    return torch.cat([mean, deviation], dim=-1)


def clip_statistics(part: Sequences) -> Tensor:
    """``(n, 2 D)`` statistics of clips as they were before masking and noise."""
    return input_statistics(part.x, part.mask) if part.summary is None else part.summary


def fit_heads(
    model: EmotionModel,
    heads: Mapping[Modality, StatisticsHead | None],
    clips: Iterable[tuple[Tensor, Inputs]],
    add_task_loss: TaskLoss,
    inverse_penalty: float,
) -> None:
    """Solves the linear models of a model; see :meth:`vavl.models.base.EmotionModel.prepare`.

    Where there are none, the clips are not read.
    """
    found: dict[Modality, list[tuple[Tensor, Tensor]]] = {m: [] for m, h in heads.items() if h}
    for places, inputs in clips if found else ():
        for modality, part in model.sequences(inputs).items():
            if modality in found:
                found[modality].append((clip_statistics(part), places[part.rows]))
    for modality, parts in found.items():
        head = heads[modality]
        if head is not None and parts:
            statistics, places = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
            head.fit(statistics, places, add_task_loss, inverse_penalty)
