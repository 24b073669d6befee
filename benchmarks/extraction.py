"""What features cost: processor time per clip and per hour of media, on one thread; prints JSON.

python benchmarks/extraction.py clip.mp4 ... --visual compact-face
python benchmarks/extraction.py FOLDER --clips 50 --acoustic hf:WHISPER_FOLDER --layer 3

Each clip is extracted as `vavl extract` does it, after one that is not counted. Processor time, not
time on the clock: other work on the machine hardly changes it. Bytes are those of the store.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from timing import circumstances, spread

from vavl.features.registry import Extractor, build_extractor
from vavl.media.audio import audio_blocks
from vavl.media.container import media_info


def processor_seconds(function: Any) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def decode(extractor: Extractor, path: Path) -> None:
    """Reads a clip as the extractor does, and does nothing with it."""
    for _ in extractor.frames(path) if hasattr(extractor, "frames") else audio_blocks(path):
        pass


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("media", type=Path, nargs="+", help="files, or a folder of them")
    parser.add_argument("--clips", type=int, default=50, help="at most, evenly spread")
    parser.add_argument("--acoustic", default=None)
    parser.add_argument("--visual", default=None)
    parser.add_argument("--layer", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if (options.acoustic is None) == (options.visual is None):
        parser.error("expected --acoustic or --visual")
    torch.set_num_threads(1)
    modality = "acoustic" if options.acoustic else "visual"
    layer = {} if options.layer is None else {"layer": options.layer}
    extractor = build_extractor(modality, options.acoustic or options.visual, **layer)
    found = [
        file
        for path in options.media
        for file in (sorted(path.rglob("*.*")) if path.is_dir() else [path])
    ]
    clips = found[:: max(len(found) // options.clips, 1)][: options.clips]
    durations_s = [media_info(path).duration_s or float("nan") for path in clips]
    steps = [len(extractor.extract_file(path)) for path in clips]  # also loads the weights

    whole, decoding = [], []
    for _ in range(options.repeats):
        whole.append(sum(processor_seconds(lambda p=p: extractor.extract_file(p)) for p in clips))
        decoding.append(sum(processor_seconds(lambda p=p: decode(extractor, p)) for p in clips))
    hours = sum(durations_s) / 3600
    info = media_info(clips[0])
    result = {
        "extractor": extractor.spec.extractor,
        "layer": options.layer,
        "clips": len(clips),
        "seconds_per_clip": sum(durations_s) / len(clips),
        "first_clip": {"name": clips[0].name, "width": info.width, "height": info.height},
        "processor_ms_per_clip": spread([1000 * value / len(clips) for value in whole]),
        "processor_s_per_hour": spread([value / hours for value in whole]),
        "of_it_decoding": spread([d / w for d, w in zip(decoding, whole, strict=True)]),
        "megabytes_per_hour": 2 * extractor.spec.dim * sum(steps) / 1e6 / hours,
        "repeats": options.repeats,
        **circumstances(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
