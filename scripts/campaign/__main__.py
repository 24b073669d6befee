"""A campaign of damaged files: each must end in an answer or in an error of ours, in time.

    PYTHONPATH=scripts python -m campaign --seconds 3600 --seed 0 --out campaign.json

Every try is made of the seed and its number alone, and done by a process that is ended after 60 s.
A finding is another exception than ours, a death, a try that hangs, or more memory than 1.5 GB.
They are listed, their files are kept beside the report, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from campaign.running import run


def main() -> int:
    """Runs a campaign; 1 where it found something."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--most", type=int, default=None, help="tries at most")
    parser.add_argument("--out", type=Path, default=None, help="JSON; files go beside it")
    given = parser.parse_args()
    keep = None if given.out is None else given.out.with_suffix(".files")
    report = run(given.seed, given.seconds, given.most, keep)
    text = json.dumps(report, indent=2)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")
    return bool(report["findings"])


if __name__ == "__main__":
    sys.exit(main())
