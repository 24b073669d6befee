"""How far raters of CREMA-D agree: what a model of each channel can be expected to reach.

    python scripts/crema_d_ceiling.py CREMA_D_FOLDER --out docs/results/crema-d-ceiling.json

Reads ``tabulatedVotes.csv`` alone. Nothing is drawn at random.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vavl.data.corpora.crema_d import published

LETTERS = "ADFHNS"
"""Angry, disgust, fear, happy, neutral, sad: columns of the table."""
CHANNELS = {"1": "voice", "2": "face", "3": "audiovisual"}

Votes = dict[str, NDArray[np.float64]]
"""Clip to the votes for each category, (6,)."""


def read_votes(path: Path) -> dict[str, Votes]:
    """The votes of each channel; the first digit of a row's id is the channel."""
    votes: dict[str, Votes] = {channel: {} for channel in CHANNELS.values()}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            channel = CHANNELS[row[""][0]]
            votes[channel][row["fileName"]] = np.array([float(row[c]) for c in LETTERS])
    return votes


def chosen(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares of the categories with most votes: ``(6,)``; those of a tie have equal parts."""
    most = (votes == votes.max()).astype(float)
    return most / most.sum()


def published_labels(votes: Votes) -> dict[str, NDArray[np.float64]]:
    """The 5,820 labels of the list published with VAVL, as shares."""
    known, labels = published(), {}
    for clip, counts in votes.items():
        if clip in known.labels_without_majority:
            place = LETTERS.index(known.labels_without_majority[clip][0].upper())
            labels[clip] = np.eye(len(LETTERS))[place]
        elif clip not in known.majorities_not_used and counts.max() > counts.sum() / 2:
            labels[clip] = chosen(counts)
    return labels


def one_rater(votes: NDArray[np.float64]) -> float:
    """How often one rater of a clip chooses what most of the *other* ones choose."""
    hits = 0.0
    for place in np.flatnonzero(votes):
        others = votes.copy()
        others[place] -= 1
        hits += votes[place] * chosen(others)[place] if others.any() else 0.0
    return float(hits / votes.sum())


def agreement(votes: dict[str, Votes], labels: dict[str, NDArray[np.float64]]) -> dict[str, dict]:
    """By channel, agreement with the label of those who saw and heard the clip."""
    found = {}
    for channel, of_clip in votes.items():
        clips = [clip for clip in labels if clip in of_clip]
        single = [float(of_clip[c] @ labels[c] / of_clip[c].sum()) for c in clips]
        group = [float(chosen(of_clip[c]) @ labels[c]) for c in clips]
        alone = [one_rater(of_clip[c]) for c in clips]
        found[channel] = {
            "clips": len(clips),
            "raters_per_clip": round(float(np.mean([of_clip[c].sum() for c in clips])), 2),
            "one_rater": round(float(np.mean(single)), 4),
            "most_raters": round(float(np.mean(group)), 4),
            "one_rater_against_the_others": round(float(np.mean(alone)), 4),
        }
    return found


def main() -> None:
    """Writes the figures, and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    votes = read_votes(options.root / "tabulatedVotes.csv")
    both = votes["audiovisual"]
    figures = {
        "published list": agreement(votes, published_labels(both)),
        "all clips": agreement(votes, {clip: chosen(counts) for clip, counts in both.items()}),
    }
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
