"""The small RAVDESS of the study `tuning`: development speakers, once, speech alone.

    python research/tuning_clips.py data/ravdess/manifest.parquet data/ravdess-tuning

Kept are the speakers outside fold 0, of each clip that was said twice the first time, and of each
clip the 1.8 s in which the actors speak: the recordings begin and end with about a second of
silence. Tuning an encoder on a processor takes too long for more.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vavl.data.manifest import Manifest

LEFT_OUT_FOLD = 0
"""Its speakers are met neither in training nor in the comparison."""
START_S, END_S = 0.9, 2.7
"""Where speech lies, found by :func:`vavl.media.speech.only_speech` on ten clips: it takes 1.5 to
2.4 s."""


def small(manifest: Manifest) -> Manifest:
    """The part of RAVDESS that is tuned on."""
    kept = [
        replace(clip, start_s=START_S, end_s=END_S)
        for clip in manifest
        if clip.fold != LEFT_OUT_FOLD and (clip.metadata or {})["repetition"] == "01"
    ]
    return Manifest(kept, root=manifest.root)


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="of RAVDESS, by `vavl prepare ravdess`")
    parser.add_argument("out", type=Path, help="folder of the table to write")
    options = parser.parse_args()
    found = small(Manifest.load(options.manifest))
    options.out.mkdir(parents=True, exist_ok=True)
    found.save(options.out / "manifest.parquet")
    print(f"{found!r} -> {options.out / 'manifest.parquet'}")


if __name__ == "__main__":
    main()
