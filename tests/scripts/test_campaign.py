"""A tenth of a campaign, with a seed of its own; scripts/campaign runs all of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from campaign.mutating import damaged, odd_json
from campaign.running import KINDS, run


def test_damaged_files_end_in_an_answer_or_an_error(tmp_path: Path) -> None:
    report = run(seed=1, seconds=12.0, most=160, keep=tmp_path / "kept")
    assert report["findings"] == []
    assert all(report["tried"][kind]["all"] for kind in KINDS)
    assert json.loads(json.dumps(report)) == report


def test_what_a_seed_damages_is_always_the_same() -> None:
    content, text = bytes(range(256)) * 8, b'{"a": [1, {"b": 2}], "c": null}'
    for number in range(50):
        for damage, given in ((damaged, content), (odd_json, text)):
            made = [damage(given, np.random.default_rng(number)) for _ in range(2)]
            assert made[0] == made[1]
            assert made[0] != given or damage is odd_json
