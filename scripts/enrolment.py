"""Study 7, enrolment: score against the number of unlabelled clips of the test speaker.

    python scripts/enrolment.py runs/ravdess-0 runs/ravdess-1 --out studies/enrolment

The models of the runs, which differ in their seed alone, predict their test clips again; nothing is
trained. Written are results.md, results.csv and a curve. The same command goes on where it was
interrupted. See docs/enrolment.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vavl.errors import EXIT_BAD_INPUT, VavlError
from vavl.evaluation.run import run_config
from vavl.evaluation.wording import counted
from vavl.studies.enrolment import MIXED, run_enrolment
from vavl.studies.enrolment_report import write_enrolment


def main() -> None:
    """Runs the study and writes its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of `vavl train`")
    parser.add_argument("--out", type=Path, default=Path("studies/enrolment"))
    parser.add_argument("--draws", type=int, default=3, help="draws of clips that are averaged")
    parser.add_argument("--neutral", default="neutral", help="category of the second pool")
    parser.add_argument("--replicates", type=int, default=5000, help="resamples of speakers")
    options = parser.parse_args()
    try:
        results = run_enrolment(
            options.runs,
            options.out / "predictions",
            pools=(MIXED, options.neutral),
            draws=options.draws,
            replicates=options.replicates,
            progress=lambda done: print(done, flush=True),
        )
        known = run_config(options.runs[0]).data.speaker_normalisation
    except VavlError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    score = next(iter(results[0].scores.values()))
    remarks = (
        f"Models of {', '.join(map(str, options.runs))}, trained "
        f"{'with' if known else 'without'} normalisation by speaker; "
        f"{counted(score.clips, 'test clip')}, {counted(options.draws, 'draw')}, "
        f"{options.replicates:,} resamples of speakers."
    )
    print(write_enrolment(results, options.out, remarks))


if __name__ == "__main__":
    main()
