"""Trains compact-face, the network behind the features of that name: one command, resumable.

    python scripts/train_compact_face.py FACES_FOLDER

The targets are the votes of ten people. Each image of the train split is seen as it is, or as the
detector finds and crops it in a frame that it was pasted into (kept in ``--cache``); some more are
shown turned, too coarse or beside the face, with the target that there is no expression. The
weights are a moving average; those of the epoch with the best accuracy on validation, mean of plain
and cropped images, are written to ``weights.safetensors`` in the output folder, beside
``log.jsonl`` and a checkpoint from which the same command goes on. Copied to
``src/vavl/features/assets/compact_face.safetensors`` they are those of the package;
``scripts/score_compact_face.py`` scores them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from compact_face_augment import augmented, unreadable
from compact_face_data import SMALL_FRAMES, SPLITS, Cropped, load_or_crop, load_split
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vavl.features.compact_face import OUTPUTS, CompactFace
from vavl.system.memory import keep_memory


@dataclass(frozen=True)
class Faces:
    """A split: plain images and the detector's crops (N, 48, 48) uint8, and where it found one.

    ``votes`` are shares ``(N, 8)``, ``majority`` is ``(N,)``; see
    :class:`compact_face_data.VotedFaces`.
    """

    images: Tensor
    crops: Tensor
    found: Tensor
    votes: Tensor
    majority: Tensor

    @classmethod
    def load(cls, path: Path, split: str, cache: Path, count: int | None) -> Faces:
        """Reads a split; finds and crops its faces if that was not done before."""
        voted = load_split(path, split)
        cropped: Cropped = load_or_crop(
            cache / f"{split}-cropped.npz", voted.images, SMALL_FRAMES, seed=SPLITS[split]
        )
        usable = np.flatnonzero(voted.votes.sum(axis=1) > 0)
        # The file is sorted by class: a few of all classes want a draw.
        chosen = np.random.default_rng(0).permutation(usable)[:count]
        parts = (voted.images, cropped.crops, cropped.found, voted.votes, voted.majority)
        return cls(*(torch.from_numpy(part[chosen]) for part in parts))


class Training:
    """The state of a run: network, moving average, optimiser, learning rate."""

    def __init__(self, options: argparse.Namespace, steps_per_epoch: int) -> None:
        torch.manual_seed(options.seed)
        self.network = CompactFace(options.dropout)
        # Faster on a CPU. In place: the average copies the network.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            self.network, multi_avg_fn=_moving_average(options.ema), use_buffers=True
        )
        # Scales and shifts are not weights: decay would only change the step they are learnt at.
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": options.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=options.learning_rate,
        )
        # One step more than is taken: the schedule moves on after the last one, too.
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            options.learning_rate,
            total_steps=options.epochs * steps_per_epoch + 1,
            pct_start=0.15,
            cycle_momentum=False,
            div_factor=10,
            final_div_factor=100,
        )
        self.epochs_done, self.best = 0, 0.0

    @property
    def _parts(self) -> dict[str, Any]:
        names = ("network", "average", "optimizer", "schedule")
        return {name: getattr(self, name) for name in names}

    def save(self, path: Path) -> None:
        """Writes everything, so that a run cut off at any moment finds a whole checkpoint."""
        state = {name: part.state_dict() for name, part in self._parts.items()}
        partial = path.with_suffix(".partial")
        torch.save({**state, "epochs_done": self.epochs_done, "best": self.best}, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Reads what :meth:`save` wrote."""
        state = torch.load(path, weights_only=True)
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self.epochs_done, self.best = state["epochs_done"], state["best"]


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """A moving average that forgets the first steps faster."""

    def update(averages: Any, currents: Any, count: Any) -> None:
        early = (1 + int(count)) / (10 + int(count))
        get_ema_multi_avg_fn(min(decay, early))(averages, currents, count)

    return update


def side(epoch: int, options: argparse.Namespace) -> int:
    """Side of the crops in an epoch: small ones teach the coarse at under half of the work."""
    share = epoch / options.epochs
    return 32 if share < 0.25 else 40 if share < 0.5 else 48


def train_epoch(training: Training, faces: Faces, options: argparse.Namespace) -> dict[str, float]:
    """One pass over the faces; the mean loss and the accuracy on what was shown."""
    epoch = training.epochs_done
    random = torch.Generator().manual_seed(1_000_003 * options.seed + epoch)
    torch.manual_seed(1_000_003 * options.seed + epoch)  # dropout
    size = side(epoch, options)
    order = torch.randperm(len(faces.votes), generator=random)
    training.network.train()
    nothing = F.one_hot(torch.tensor(OUTPUTS.index("none")), len(OUTPUTS)).float()
    loss_sum = right = shown = 0.0
    for batch in order.split(options.batch_size)[: len(order) // options.batch_size]:
        cropped = faces.found[batch] & (torch.rand(len(batch), generator=random) < 0.5)
        pixels = torch.where(cropped[:, None, None], faces.crops[batch], faces.images[batch])
        targets = faces.votes[batch]
        pixels = augmented(pixels, size, random)
        # Some more are shown in such a way that nobody could tell.
        spoilt = batch[: round(options.unreadable * len(batch))]
        pixels = torch.cat([pixels, unreadable(faces.images[spoilt], size, random)])
        targets = torch.cat([targets, nothing.expand(len(spoilt), -1)])
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            logits = training.network(pixels).float()
        loss = F.cross_entropy(logits, targets)
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        training.schedule.step()
        training.average.update_parameters(training.network)
        loss_sum += loss.item() * len(targets)
        right += (logits.argmax(dim=1) == targets.argmax(dim=1)).sum().item()
        shown += len(targets)
    return {"side": size, "loss": loss_sum / shown, "train_accuracy": right / shown}


@torch.inference_mode()
def validate(network: nn.Module, faces: Faces) -> dict[str, float]:
    """Accuracy against the majority on plain images, and on the crops of those that were found."""
    network.eval()
    clear = faces.majority >= 0

    def accuracy(pixels: Tensor, labels: Tensor) -> float:
        guesses = [network(part.float()).argmax(dim=1) for part in pixels.split(128)]
        return (torch.cat(guesses) == labels).float().mean().item()

    return {
        "plain": accuracy(faces.images[clear], faces.majority[clear]),
        "cropped": accuracy(faces.crops[faces.found & clear], faces.majority[faces.found & clear]),
    }


def save_weights(network: nn.Module, path: Path) -> None:
    """Half precision: no accuracy is lost, half of the size is."""
    state = {
        name: value.half().contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(state, path)


def main() -> None:
    """Trains, or goes on where a run was cut off."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", type=Path, help="folder of faces48.npz and its votes-only file")
    parser.add_argument("--out", type=Path, default=Path("runs/compact-face"))
    parser.add_argument("--cache", type=Path, default=Path("data/faces48"))
    parser.add_argument("--epochs", type=int, default=42)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="its highest value")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument(
        "--unreadable", type=float, default=0.06, help="so many more that show no expression"
    )
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the moving average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--bfloat16", action="store_true", help="twice as fast on processors that multiply it"
    )
    parser.add_argument("--limit", type=int, help="use so many faces of each split: for trials")
    parser.add_argument("--validate-every", type=int, default=5, help="epochs; all of the last 6")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    keep_memory()
    options.out.mkdir(parents=True, exist_ok=True)
    faces = Faces.load(options.faces, "train", options.cache, options.limit)
    held_out = Faces.load(options.faces, "validation", options.cache, options.limit)
    training = Training(options, len(faces.votes) // options.batch_size)
    checkpoint = options.out / "checkpoint.pt"
    if checkpoint.is_file():
        training.resume(checkpoint)
        print(f"goes on after epoch {training.epochs_done}", flush=True)
    else:
        # Of paths the names: where things lie on this machine is nobody's concern.
        settings = {
            name: value.name if isinstance(value, Path) else value
            for name, value in vars(options).items()
        }
        (options.out / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    while training.epochs_done < options.epochs:
        started = time.perf_counter()
        shown = train_epoch(training, faces, options)
        training.epochs_done += 1
        record = {"epoch": training.epochs_done, **shown}
        record["train_s"] = round(time.perf_counter() - started, 1)
        left = options.epochs - training.epochs_done
        if left < 6 or training.epochs_done % options.validate_every == 0:
            record |= validate(training.average.module, held_out)
            score = float(np.mean([record["plain"], record["cropped"]]))
            if score > training.best:
                training.best = score
                save_weights(training.average.module, options.out / "weights.safetensors")
        training.save(checkpoint)
        with (options.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
