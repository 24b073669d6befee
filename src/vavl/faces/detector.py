"""MTCNN: three small networks in a cascade find faces and five landmarks in each.

Source: Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded
convolutional networks", arXiv 1604.02878.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn

from vavl.errors import InputError, all_problems
from vavl.faces.alignment import Face
from vavl.media.frames import check_frames
from vavl.system.device import CPU, inference, usable_device


class _ProposalNet(nn.Module):
    """(N, 3, H, W) to the probability of a face (N, h, w) and box offsets (N, 4, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _normalised(x)
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 2, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(dim=1)[:, 1], self.conv4_2(x)


class _RefineNet(nn.Module):
    """Crops (K, 3, 24, 24) to the probability of a face (K,) and box offsets (K, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _normalised(x)
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu4(self.dense4(_flattened(self.prelu3(self.conv3(x)))))
        return self.dense5_1(x).softmax(dim=1)[:, 1], self.dense5_2(x)


class _OutputNet(nn.Module):
    """Crops (K, 3, 48, 48) to probability (K,), box offsets (K, 4) and landmarks (K, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2 = nn.Linear(256, 2), nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = _normalised(x)
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu5(self.dense5(_flattened(self.prelu4(self.conv4(x)))))
        return self.dense6_1(x).softmax(dim=1)[:, 1], self.dense6_2(x), self.dense6_3(x)


class Cascade(nn.Module):
    """The three networks, under the names of the weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = _ProposalNet(), _RefineNet(), _OutputNet()


def _normalised(pixels: Tensor) -> Tensor:
    """As in training, and channels last: with so few channels, three times faster on a CPU."""
    return ((pixels - 127.5) / 128).contiguous(memory_format=torch.channels_last)


def _flattened(x: Tensor) -> Tensor:
    """(K, C, H, W) to (K, W * H * C): the order the dense weights were trained in."""
    return x.permute(0, 3, 2, 1).flatten(1)


def pretrained(device: torch.device = CPU) -> Cascade:
    """The networks with the weights of the package, ready for inference; read once."""
    return _pretrained(device)


@cache
def _pretrained(device: torch.device) -> Cascade:
    if device != CPU:
        return copy.deepcopy(pretrained()).to(device)
    weights = resources.files("vavl.faces") / "assets" / "mtcnn.safetensors"
    cascade = Cascade()
    cascade.load_state_dict(load(weights.read_bytes()))
    return cascade.requires_grad_(False).eval()


_PIXELS_PER_PASS = 1 << 21
"""Frames become floating point in passes of at most so many pixels (25 MB), at least one frame."""

_CELL = 12
"""Side of what the proposal network looks at, in pixels; it looks at every second pixel."""
_CELL_STRIDE = 2
_REFINE_SIDE = 24
_OUTPUT_SIDE = 48
_CROPS_PER_PASS = 128
_MOST_CANDIDATES = 1000
"""Per frame and pyramid level, by score: bounds time and memory on busy frames."""
_SMALLEST_FACE = 20
_DEFAULT_SHARE = 9


def non_maximum_suppression(
    boxes: Tensor, scores: Tensor, threshold: float, *, of_smaller: bool = False
) -> Tensor:
    """Chooses boxes from the highest score down, leaving out those that overlap a chosen one.

    Args:
        boxes: ``(K, 4)`` x0, y0, x1, y1.
        scores: ``(K,)``; of equal scores, the earlier counts as the higher.
        threshold: Share of the union, in [0, 1], from which on boxes overlap.
        of_smaller: Takes the share of the smaller box instead: a box inside another overlaps.

    Returns:
        Indices of the chosen boxes, the highest score first.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
        >>> non_maximum_suppression(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5).tolist()
        [1, 2]
    """
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)  # (K, K)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=-1)
    smaller = torch.minimum(area[:, None], area[None, :])
    whole = smaller if of_smaller else area[:, None] + area[None, :] - shared
    # Row i could remove column j: only a box of higher score removes another.
    removes = (shared > threshold * whole).triu(diagonal=1)
    kept = torch.ones(len(order), dtype=torch.bool)
    # Starting from all, the choice settles from the highest score down, at least one box a turn
    # and in practice within a few turns: the greedy choice is the only one that stays the same.
    while True:
        still = ~(removes & kept[:, None]).any(dim=0)
        if torch.equal(still, kept):
            return order[kept]
        kept = still


@dataclass(frozen=True)
class _Candidates:
    """Boxes of all frames of a batch: frame (K,) int64, box (K, 4) in pixels, score (K,).

    They are on the CPU wherever the networks run: to choose among a few boxes takes many small
    steps, each of which an accelerator would have to be waited for.
    """

    frame: Tensor
    box: Tensor
    score: Tensor

    def select(self, index: Tensor) -> _Candidates:
        return _Candidates(self.frame[index], self.box[index], self.score[index])

    def distinct(self, threshold: float, *, of_smaller: bool = False) -> Tensor:
        """Indices of the boxes that non-maximum suppression keeps, frame by frame."""
        left = [torch.zeros(0, dtype=torch.int64)]
        for number in sorted(set(self.frame.tolist())):
            members = (self.frame == number).nonzero()[:, 0]
            highest = self.score[members].argsort(descending=True, stable=True)
            members = members[highest[:_MOST_CANDIDATES]]
            best = non_maximum_suppression(
                self.box[members], self.score[members], threshold, of_smaller=of_smaller
            )
            left.append(members[best])
        return torch.cat(left)


class MtcnnDetector:
    """Finds faces with the three networks of MTCNN, whose weights come with the package.

    The proposal network scans a pyramid of shrunken frames. The refine network rejects some of its
    proposals, and the output network some of the rest; it also places the landmarks. The faces of a
    frame do not depend on the others of its batch. Large frames are shrunk first, to the size where
    the smallest face sought has the 48 pixels that the output network sees.

    Args:
        minimum_face_px: Side of the smallest face to find, at least 12. Default: a ninth of the
            frame's shorter side, at least 20.
        thresholds: Probabilities below which the proposal, refine and output network reject. The
            first two are those of the original code. The last decides what counts as a face: on
            video samples, a face half hidden by a hand scores 0.94 and more, cartoon lettering up
            to 0.87; with 0.7, as in the original, the lettering passes.
        pyramid_factor: Size of a pyramid level relative to the one before, in (0, 1).
        device: Where the networks run: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` or
            ``"auto"``. It is sought with the first frames, where these are.

    Raises:
        InputError: An argument is out of its range; with the first frames, that the device cannot
            be used.

    Example:
        >>> MtcnnDetector().detect(np.zeros((2, 90, 160, 3), np.uint8))
        [[], []]
    """

    def __init__(
        self,
        minimum_face_px: float | None = None,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.9),
        pyramid_factor: float = 0.709,
        device: str = "cpu",
    ) -> None:
        problems = []
        if minimum_face_px is not None and not _CELL <= minimum_face_px < math.inf:
            problems.append(
                f"minimum_face_px: expected at least {_CELL} pixels, got {minimum_face_px}"
            )
        if len(thresholds) != 3 or not all(0 <= value <= 1 for value in thresholds):
            problems.append(f"thresholds: expected three numbers in [0, 1], got {thresholds}")
        if not 0 < pyramid_factor < 1:
            problems.append(f"pyramid_factor: expected a number in (0, 1), got {pyramid_factor}")
        if problems:
            raise InputError(all_problems("MtcnnDetector", problems))
        self.minimum_face_px = minimum_face_px
        self.thresholds = thresholds
        self.pyramid_factor = pyramid_factor
        self.device = device

    def detect(self, frames: NDArray[np.uint8]) -> list[list[Face]]:
        """Finds the faces of each of ``(N, H, W, 3)`` RGB frames, the highest score first."""
        check_frames(frames)
        height, width = frames.shape[1:3]
        smallest = self.minimum_face_px or max(_SMALLEST_FACE, min(height, width) / _DEFAULT_SHARE)
        per_pass = max(1, _PIXELS_PER_PASS // (height * width))
        device = usable_device(self.device)
        found: list[list[Face]] = []
        with inference(device):
            for start in range(0, len(frames), per_pass):
                # A copy, since torch takes neither read-only nor flipped arrays.
                part = torch.from_numpy(np.array(frames[start : start + per_pass], order="C"))
                found += self._detect(part.to(device), smallest)
        return found

    def _detect(self, pixels: Tensor, smallest: float) -> list[list[Face]]:
        """Faces of each of (N, H, W, 3) frames, on the device where the networks run."""
        height, width = pixels.shape[1:3]
        pixels = pixels.permute(0, 3, 1, 2).contiguous().float()
        shrink = min(1.0, _OUTPUT_SIDE / smallest)
        if shrink < 1:
            size = max(1, round(height * shrink)), max(1, round(width * shrink))
            pixels = _shrunk(pixels, size)
        candidates, landmarks = self._cascade(pixels, smallest * shrink)
        # Each axis by its own factor: the size of the shrunken frames is rounded.
        factor = torch.tensor([width / pixels.shape[3], height / pixels.shape[2]])
        boxes = (candidates.box * factor.repeat(2)).tolist()
        points = (landmarks * factor).numpy()
        found: list[list[Face]] = [[] for _ in pixels]
        for row in candidates.score.argsort(descending=True, stable=True).tolist():
            face = Face(tuple(boxes[row]), candidates.score[row].item(), points[row].copy())
            found[int(candidates.frame[row])].append(face)
        return found

    def _cascade(self, frames: Tensor, smallest: float) -> tuple[_Candidates, Tensor]:
        """Faces of (N, 3, H, W) frames in 0..255, and their landmarks (K, 5, 2)."""
        networks = pretrained(frames.device)
        candidates = self._propose(frames, smallest)

        candidates = _squared(candidates, frames)
        crops = _crops(frames, candidates, _REFINE_SIDE)
        score, offset = _in_passes(networks.rnet, crops)
        candidates = replace(candidates, score=score)
        kept = (score >= self.thresholds[1]).nonzero()[:, 0]
        kept = kept[candidates.select(kept).distinct(0.7)]
        candidates = _moved(candidates.select(kept), offset[kept])

        candidates = _squared(candidates, frames)
        crops = _crops(frames, candidates, _OUTPUT_SIDE)
        score, offset, relative = _in_passes(networks.onet, crops)
        candidates = replace(candidates, score=score)
        kept = (score >= self.thresholds[2]).nonzero()[:, 0]
        candidates, offset = candidates.select(kept), offset[kept]
        # The landmarks are shares of the crop: five x, then five y.
        side = candidates.box[:, 2:] - candidates.box[:, :2]
        shares = relative[kept].view(-1, 2, 5).transpose(1, 2)
        landmarks = candidates.box[:, None, :2] + shares * side[:, None]  # (K, 5, 2)
        candidates = _moved(candidates, offset)
        kept = candidates.distinct(0.7, of_smaller=True)
        return candidates.select(kept), landmarks[kept]

    def _propose(self, frames: Tensor, smallest: float) -> _Candidates:
        """Boxes that the proposal network finds at any level of the pyramid."""
        network, threshold = pretrained(frames.device).pnet, self.thresholds[0]
        none = _Candidates(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0))
        found, offsets = [none], [torch.zeros(0, 4)]
        # All levels, before the first is waited for.
        outputs = [(level.shape, network(level)) for level in self._pyramid(frames, smallest)]
        for shape, output in outputs:
            score, offset = (value.cpu() for value in output)
            index = (score >= threshold).nonzero()  # (K, 3): frame, row, column
            frame, row, column = index.unbind(dim=1)
            corner = torch.stack([column, row], dim=1) * _CELL_STRIDE
            # From pixels of the level to pixels of the frame.
            factor = torch.tensor([frames.shape[3] / shape[3], frames.shape[2] / shape[2]]).repeat(
                2
            )
            box = torch.cat([corner, corner + _CELL], dim=1) * factor
            candidates = _Candidates(frame, box, score[frame, row, column])
            kept = candidates.distinct(0.5)
            found.append(candidates.select(kept))
            offsets.append(offset[frame, :, row, column][kept])
        candidates = _Candidates(
            torch.cat([level.frame for level in found]),
            torch.cat([level.box for level in found]),
            torch.cat([level.score for level in found]),
        )
        kept = candidates.distinct(0.7)
        return _moved(candidates.select(kept), torch.cat(offsets)[kept])

    def _pyramid(self, frames: Tensor, smallest: float) -> Iterator[Tensor]:
        """Frames shrunk so that faces of growing size fill the cell of the proposal network."""
        # Each level is shrunk from the second before it: smaller, so faster, than the frames.
        before, last = frames, frames
        scale = _CELL / smallest
        while True:
            size = round(frames.shape[2] * scale), round(frames.shape[3] * scale)
            if min(size) < _CELL:
                return
            before, last = last, _shrunk(before, size)
            yield last
            scale *= self.pyramid_factor


def _moved(candidates: _Candidates, offset: Tensor) -> _Candidates:
    """Boxes with their corners moved by offsets (K, 4), which are shares of the box's size."""
    size = candidates.box[:, 2:] - candidates.box[:, :2]
    box = candidates.box + offset * size.repeat(1, 2)
    return _Candidates(candidates.frame, box, candidates.score)


def _squared(candidates: _Candidates, frames: Tensor) -> _Candidates:
    """Boxes as squares of whole pixels about the same centre, those beyond the frame left out."""
    low, high = candidates.box[:, :2], candidates.box[:, 2:]
    side = (high - low).amax(dim=1, keepdim=True).round()
    corner = ((low + high - side) / 2).round()
    box = torch.cat([corner, corner + side], dim=1)
    inside = (corner + side > 0) & (corner < torch.tensor([frames.shape[3], frames.shape[2]]))
    usable = (inside.all(dim=1) & (side[:, 0] >= 1)).nonzero()[:, 0]
    return _Candidates(candidates.frame, box, candidates.score).select(usable)


def _crops(frames: Tensor, candidates: _Candidates, side: int) -> Tensor:
    """Crops (K, 3, side, side) of boxes of whole pixels; pixels beyond the frame are black."""
    if frames.device != CPU:
        return _crops_by_products(frames, candidates, side)
    crops = torch.empty(len(candidates.frame), 3, side, side)
    height, width = frames.shape[2:]
    places = zip(candidates.frame.tolist(), candidates.box.int().tolist(), strict=True)
    for crop, (frame, (x0, y0, x1, y1)) in zip(crops, places, strict=True):
        part = frames[frame, :, max(y0, 0) : y1, max(x0, 0) : x1]
        beyond = (max(-x0, 0), max(x1 - width, 0), max(-y0, 0), max(y1 - height, 0))
        if any(beyond):
            part = F.pad(part, beyond)
        crop.copy_(F.interpolate(part[None], (side, side), mode="area")[0])
    return crops


def _crops_by_products(frames: Tensor, candidates: _Candidates, side: int) -> Tensor:
    """The same in few large steps, for an accelerator, which takes as long for a small one."""
    height, width = frames.shape[2:]
    crops = frames.new_empty(len(candidates.frame), 3, side, side)
    for number in set(candidates.frame.tolist()):
        members = (candidates.frame == number).nonzero()[:, 0]
        for part in members.split(_CROPS_PER_PASS):
            x0, y0, x1, y1 = candidates.box[part].long().to(frames.device).unbind(dim=1)
            rows, columns = _shares(y0, y1, side, height), _shares(x0, x1, side, width)
            narrow = torch.einsum("ksh,chw->kcsw", rows, frames[number])
            crops[part.to(frames.device)] = torch.einsum("kcsw,ktw->kcst", narrow, columns)
    return crops


def _shrunk(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames (N, 3, H, W) of a smaller size; a pixel is the mean of those it covers."""
    if frames.device == CPU:
        return F.interpolate(frames, size, mode="area")
    # Not every accelerator has that for sizes that do not divide each other.
    rows, columns = (
        _shares_of_all(cells, length, frames.device)
        for cells, length in zip(size, frames.shape[2:], strict=True)
    )
    return rows @ frames @ columns.T


@lru_cache(maxsize=64)
def _shares_of_all(cells: int, length: int, device: torch.device) -> Tensor:
    """What pixels of a line count for in the means over cells of all of it: (cells, length)."""
    low = torch.zeros(1, dtype=torch.int64, device=device)
    return _shares(low, low + length, cells, length)[0]


def _shares(low: Tensor, high: Tensor, cells: int, length: int) -> Tensor:
    """What pixels of a line count for in the means over cells of spans (K,): (K, cells, length)."""
    cell = torch.arange(cells + 1, device=low.device)
    size = (high - low)[:, None]
    first = low[:, None] + cell[:-1] * size // cells
    stop = low[:, None] - (-cell[1:] * size // cells)  # rounded up: cells may share a pixel
    place = torch.arange(length, device=low.device)
    inside = (first[..., None] <= place) & (place < stop[..., None])
    return inside / (stop - first)[..., None]


def _in_passes(network: nn.Module, crops: Tensor) -> list[Tensor]:
    """Output of a network for each crop, on the CPU, in passes that bound the memory."""
    starts = range(0, max(1, len(crops)), _CROPS_PER_PASS)
    parts = [network(crops[start : start + _CROPS_PER_PASS]) for start in starts]
    return [torch.cat(outputs).cpu() for outputs in zip(*parts, strict=True)]
