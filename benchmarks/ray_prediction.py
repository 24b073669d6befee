"""The same predictions in local processes and on Ray: equal rows? how fast? Prints JSON.

python benchmarks/ray_prediction.py FOLDER --clips 200

Both engines work with as many processes of one thread, in turns. Of one more run on Ray an actor is
killed (``kill -9``) when half of the clips are done. Tables are compared with the first, byte by
byte. Starting Ray is timed apart. What Ray says of the dead actor stands before the JSON.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from timing import print_report, ratios, seconds, spread

from vavl.inference import find_files, group_files, predict_many
from vavl.inference.many import RECORDS_FILE

TABLES = ("predictions.csv", "people.csv", "failures.csv")


def actors() -> list[int]:
    """The processes of this job's actors, which Ray has started below this one."""
    parents, found = {}, []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat, command = (process / "stat").read_text(), (process / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(process.name)] = int(stat.rpartition(")")[2].split()[1])
        if command.startswith(b"ray::_Actor"):
            found.append(int(process.name))
    return [pid for pid in found if os.getpid() in ancestors(pid, parents)]


def ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    """The processes above one."""
    found = set()
    while (pid := parents.get(pid, 0)) > 1:
        found.add(pid)
    return found


def kill_one(records: Path, after: int, killed: list[int]) -> None:
    """Kills an actor when so many clips are done; notes how many were."""
    while not records.is_file() or len(records.read_bytes().splitlines()) <= after:
        time.sleep(0.01)
    os.kill(actors()[0], signal.SIGKILL)
    killed.append(len(records.read_bytes().splitlines()) - 1)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    files = find_files([options.folder])
    clips = group_files(files[:: max(len(files) // options.clips, 1)][: options.clips])
    start_s = seconds(lambda: ray.init(include_dashboard=False, log_to_driver=False))
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, engine: Any) -> float:
            return seconds(
                lambda: predict_many(
                    clips,
                    Path(folder, name),
                    model=options.model,
                    engine=engine,
                    workers=options.workers,
                    progress=False,
                )
            )

        times: dict[str, list[float]] = {"local": [], "ray": []}
        for repeat in range(options.repeats):
            for engine, measured in times.items():
                measured.append(run(f"{engine}-{repeat}", engine))
        killed: list[int] = []
        killer = threading.Thread(
            target=kill_one, args=(Path(folder, "death", RECORDS_FILE), len(clips) // 2, killed)
        )
        killer.start()
        with_death_s = run("death", "ray")
        killer.join()
        first = {table: Path(folder, "local-0", table).read_bytes() for table in TABLES}
        others = [path for path in Path(folder).iterdir() if path.name != "local-0"]
        print_report(
            "ray_prediction",
            vars(options),
            clips=len(clips),
            rows=len(first["predictions.csv"].splitlines()) - 1,
            failed=len(first["failures.csv"].splitlines()) - 1,
            tables_that_differ={
                path.name: [t for t in TABLES if (path / t).read_bytes() != first[t]]
                for path in others
            },
            actor_killed={"after_clips": killed[0], "seconds": with_death_s},
            seconds={name: spread(values) for name, values in times.items()},
            ray_over_local=ratios(times["ray"], times["local"]),
            ray_start_s=start_s,
            load=os.getloadavg(),
        )


if __name__ == "__main__":
    main()
