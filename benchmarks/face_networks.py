"""MTCNN's networks and `compact-face` in torch and in onnxruntime; prints JSON.

python benchmarks/face_networks.py

Random pixels, at the sizes that a video of 640 x 360 asks for: eight frames in the largest level of
the pyramid, a few candidates, a few faces. Each network takes turns with its own graph, and their
outputs are compared first.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import interleaved, print_report, ratios, spread
from torch import Tensor, nn

from vavl.faces import detector as mtcnn_networks
from vavl.features import compact_face
from vavl.system.onnx import open_session

SIZES = {
    "proposal, 8 frames": (8, 3, 108, 192),
    "refine, 32 crops": (32, 3, 24, 24),
    "output, 8 crops": (8, 3, 48, 48),
    "compact-face, 1 crop": (1, 48, 48),
    "compact-face, 32 crops": (32, 48, 48),
}


class Embedding(nn.Module):
    """The network of `compact-face` without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.network = compact_face.pretrained()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.embed(pixels)


def graph(network: nn.Module, pixels: Tensor, threads: int) -> Callable[[Tensor], list[Any]]:
    """The network as onnxruntime runs it."""
    file = io.BytesIO()
    program: Any = torch.onnx.export(
        network, (pixels,), input_names=["pixels"], dynamo=True, verbose=False
    )
    program.save(file)
    session = open_session(file.getvalue(), type(network).__name__, threads)
    return lambda x: session.run(None, {"pixels": x.numpy()})


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--calls", type=int, default=10, help="calls in a repeat, in turns")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    cascade, embedding = mtcnn_networks.pretrained(), Embedding()
    networks = [cascade.pnet, cascade.rnet, cascade.onet, embedding, embedding]
    results: dict[str, Any] = {}
    with torch.inference_mode():
        for (name, size), network in zip(SIZES.items(), networks, strict=True):
            pixels = torch.rand(size) * 255
            run = graph(network, pixels, options.threads)
            expected = network(pixels)
            expected = expected if isinstance(expected, tuple) else (expected,)
            apart = max(
                float(np.abs(a.numpy() - b).max())
                for a, b in zip(expected, run(pixels), strict=True)
            )
            times = interleaved(
                {
                    "torch": lambda network=network, pixels=pixels: network(pixels),
                    "onnxruntime": lambda run=run, pixels=pixels: run(pixels),
                },
                repeats=options.repeats,
                calls=options.calls,
                warm_up=3,
            )
            results[name] = {
                "ms": {n: spread([1e3 * t for t in ts]) for n, ts in times.items()},
                "torch_over_onnxruntime": ratios(times["torch"], times["onnxruntime"]),
                "largest_difference": apart,
            }
    print_report("face networks", vars(options), results=results)


if __name__ == "__main__":
    main()
