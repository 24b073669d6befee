"""faces48 as an utterance table with feature stores, for research/studies/features-faces.toml.

    python research/faces_stores.py FACES48_NPZ

Each picture becomes a clip with one visual step, of a person of its own: nobody knows who is shown.
Written are data/faces48 (the table, and the published split as a partition) and stores/faces48, a
store for each embedder. Run again, it goes on where it was. The pictures are taken as they are;
no detector crops them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from controls import FacePixels, RandomFacePixels
from numpy.typing import NDArray

from vavl.data.manifest import Manifest, Utterance
from vavl.data.partition import Partition
from vavl.data.store import StoreWriter
from vavl.features.compact_face import CLASSES, DIM, CompactFaceFeatures
from vavl.types import FeatureSpec, Modality

Embedder = CompactFaceFeatures | FacePixels
SPLITS = (0, 1, 2)
"""Training, validation, test: the order of a partition's."""
CLIPS_PER_SHARD = 4096


def prepare(path: Path, data: Path) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Writes the table and the partition; returns the ids and the pictures ``(N, 48, 48)``."""
    with np.load(path) as stored:
        images, labels, splits = stored["images"], stored["labels"], stored["split"]
    ids = tuple(f"face-{number:05d}" for number in range(len(images)))
    clips = [
        Utterance(name, "faces48", name, visual_features_path=path.name, category=CLASSES[label])
        for name, label in zip(ids, labels, strict=True)
    ]
    Manifest(clips, root=path.parent).save(data / "manifest.parquet")
    members = [tuple(np.array(ids)[splits == split].tolist()) for split in SPLITS]
    (data / "partitions").mkdir(exist_ok=True)
    Partition("published", *members).save(data / "partitions" / "published.json")
    return ids, images


def embed(
    embedder: Embedder,
    ids: tuple[str, ...],
    images: NDArray[np.uint8],
    out: Path,
) -> None:
    """Completes a store of one step for each picture."""
    spec = FeatureSpec(
        Modality.VISUAL,
        embedder.name,
        embedder.dim,
        None,
        {**embedder.parameters, "pictures": "faces48"},
        weights_sha256=embedder.weights_sha256,
    )
    with StoreWriter(out, spec, CLIPS_PER_SHARD) as writer:
        todo = [row for row, name in enumerate(ids) if name not in writer.completed]
        for start in range(0, len(todo), CLIPS_PER_SHARD):
            rows = todo[start : start + CLIPS_PER_SHARD]
            for row, features in zip(rows, embedder.embed(images[rows]), strict=True):
                writer.write(ids[row], features[None])
    print(f"{out}: {len(ids)} pictures, {len(todo)} of them new", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Makes the table and all stores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", type=Path, help="faces48.npz")
    ids, images = prepare(parser.parse_args(arguments).faces, Path("data/faces48"))
    embedders: tuple[Embedder, ...] = (CompactFaceFeatures(), FacePixels(), RandomFacePixels(DIM))
    for embedder in embedders:
        embed(embedder, ids, images, Path("stores/faces48") / embedder.name)


if __name__ == "__main__":
    main()
