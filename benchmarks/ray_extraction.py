"""The same extraction in local processes and on Ray: equal bit for bit? how fast? Prints JSON.

python benchmarks/ray_extraction.py MANIFEST --clips 200 --acoustic logmel

Both engines work with as many processes of one thread, in turns. The last run on Ray loses an
actor: it kills itself at a clip in the middle, once. Every store is compared with the first, array
by array. Starting Ray is timed apart. What Ray says of the dead actor stands before the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from timing import circumstances, ratios, seconds, spread

from vavl.data.manifest import Manifest
from vavl.data.store import FeatureStore
from vavl.features.extract import extract
from vavl.features.registry import Extractor, build_extractor


class Mortal:
    """An extractor whose process dies at one clip, the first time; notes what it was asked for."""

    def __init__(self, extractor: Extractor, victim: Path, log: Path) -> None:
        self._extractor = extractor
        self._victim = victim
        self._log = log
        self.spec = extractor.spec
        self.source_field = extractor.source_field

    def load(self) -> None:
        getattr(self._extractor, "load", lambda: None)()

    def extract_file(self, path: Path, *span: float | None) -> Any:
        with self._log.open("a") as file:
            file.write(f"{path} {os.getpid()}\n")
        if path == self._victim and self._log.read_text().count(f"{path} ") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._extractor.extract_file(path, *span)


def differing(store: FeatureStore, other: FeatureStore) -> list[str]:
    """Ids of the clips that are not in both stores with the same bits."""
    ids = sorted(set(store.ids) | set(other.ids))
    both = set(store.ids) & set(other.ids)
    return [i for i in ids if i not in both or not same_bits(store.read(i), other.read(i))]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a.view(np.uint16) == b.view(np.uint16)).all())


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--acoustic", default="logmel")
    parser.add_argument("--layer", type=int, default=None)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips-per-shard", type=int, default=16)
    options = parser.parse_args()

    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    table = Manifest.load(options.manifest)
    manifest = table[:: max(len(table) // options.clips, 1)][: options.clips]
    layer = {} if options.layer is None else {"layer": options.layer}
    extractor = build_extractor("acoustic", options.acoustic, **layer)
    start_s = seconds(lambda: ray.init(include_dashboard=False, log_to_driver=False))
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, engine: Any, extractor: Extractor) -> Any:
            return extract(
                manifest,
                extractor,
                Path(folder) / name,
                engine=engine,
                workers=options.workers,
                clips_per_shard=options.clips_per_shard,
                progress=False,
            )

        times: dict[str, list[float]] = {"local": [], "ray": []}
        for repeat in range(options.repeats):
            for engine, measured in times.items():
                measured.append(run(f"{engine}-{repeat}", engine, extractor).seconds)
        log = Path(folder) / "log"
        victim = manifest.path(manifest[len(manifest) // 2], extractor.source_field)
        assert victim is not None
        with_death = run("death", "ray", Mortal(extractor, victim, log))
        stores = {
            path.name: FeatureStore.open(path) for path in Path(folder).iterdir() if path.is_dir()
        }
        first = stores.pop("local-0")
        attempts = Counter(line.split()[0] for line in log.read_text().splitlines())
        result = {
            "extractor": options.acoustic.partition(":")[0],
            "layer": options.layer,
            "clips": len(first),
            "steps": int(first.lengths.sum()),
            "workers": options.workers,
            "clips_per_shard": options.clips_per_shard,
            "clips_that_differ": {n: len(differing(first, store)) for n, store in stores.items()},
            "actor_killed": {
                "processes": len({line.split()[1] for line in log.read_text().splitlines()}),
                "clips_done": with_death.done,
                "clips_failed": len(with_death.failed),
                "clips_begun_twice": sum(times > 1 for times in attempts.values()),
                "clips_stored_twice": sum(Counter(stores["death"].ids).values())
                - len(set(stores["death"].ids)),
                "seconds": with_death.seconds,
            },
            "seconds": {name: spread(values) for name, values in times.items()},
            "ray_over_local": ratios(times["ray"], times["local"]),
            "ray_start_s": start_s,
            **circumstances(),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
