"""The trial of a model: what counts as right, and that a run writes what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import trial_compact
from speech_conditions import CONDITIONS
from trial_compact import CLASSES, Answer, Recalls, move, surrounded

from vavl.metrics import uar


def answer(label: str | None, sad: float = 0.4) -> Answer:
    probabilities = {"sad": sad, "happy": 1 - sad} if label else {}
    return Answer(label, max(probabilities.values(), default=None), probabilities, (), "nothing")


def test_recalls_are_those_of_the_package() -> None:
    rng = np.random.default_rng(0)
    categories, answers = (rng.integers(7, size=200) for _ in range(2))
    recalls = Recalls([CLASSES[k] for k in categories], [str(k % 5) for k in range(200)])
    found = recalls.uars([CLASSES[k] for k in answers])
    assert found[0] == pytest.approx(uar(categories, answers))
    assert found.shape == (1 + 2000,)
    assert 0.01 < found[1:].std() < 0.1


def test_no_answer_is_a_wrong_one() -> None:
    recalls = Recalls(["sad", "happy", "sad", "happy"], ["ann", "ann", "bob", "bob"])
    assert recalls.uars(["sad", "happy", None, "happy"])[0] == 0.75
    # Only the speakers are drawn: ann's clips are all right, bob's half.
    drawn = recalls.uars(["sad", "happy", None, "happy"])
    assert set(drawn) == {0.5, 0.75, 1.0}


def test_a_move_is_the_largest_and_a_refusal_moves_all() -> None:
    assert move(answer("happy", 0.4), answer("happy", 0.35)) == pytest.approx(0.05)
    assert move(answer("happy"), answer(None)) == move(answer(None), answer("happy")) == 1
    assert move(answer(None), answer(None)) == 0


def test_a_sentence_keeps_its_samples_in_what_is_around_it(write_wav, noise) -> None:
    speech = noise(0.5)
    path = write_wav(speech)
    for kind in ("silence", "hum", "hiss"):
        clip = surrounded(path, kind, 2, seed=0)["audio"]
        assert clip.shape == (2.5 * 16_000,)
        start = int(np.correlate(clip, speech, "valid").argmax())
        np.testing.assert_array_equal(clip[start : start + len(speech)], speech)
        rest = np.delete(clip, np.s_[start : start + len(speech)])
        level_dbfs = 10 * np.log10(np.square(rest).mean() + 1e-12)
        assert abs(level_dbfs - (-120 if kind == "silence" else -50)) < 0.1


def test_labels_of_nothing_are_counted() -> None:
    names = [("hum", "50 Hz"), ("hum", "60 Hz"), ("wall", "white")]
    found = trial_compact._nothing_to_say(names, [answer("sad"), answer("unsure"), answer(None)])
    assert (found["labelled"], found["unsure"], found["refused"]) == (1, 1, 1)
    assert found["by_kind"] == {"hum": {"sad": 1, "unsure": 1}, "wall": {"refused": 1}}
    assert found["each"][2] == {
        **{"kind": "wall", "name": "white"},
        **{"answer": "refused", "confidence": None, "why": "nothing"},
    }


def test_a_run_on_the_bundled_model(
    write_wav, noise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    rows = ["audio,emotion,actor,fold5"]
    for number in range(2):  # two held-out actors, and others for babble
        write_wav(noise(0.4, number), f"audio/{number}.wav")
        rows.append(f"audio/{number}.wav,{'calm' if number else 'fearful'},{number},0")
    rows += ["audio/0.wav,happy,9,1"] * 30
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "results" / "trial.json"
    arguments = ["trial_compact.py", "--out", str(out), "--processes", "0"]

    monkeypatch.setattr(sys, "argv", [*arguments, "--parts", "conditions"])
    with pytest.raises(SystemExit):
        trial_compact.main()
    assert "--ravdess is needed" in capsys.readouterr().err

    monkeypatch.setattr(sys, "argv", [*sys.argv, "--ravdess", str(tmp_path)])
    trial_compact.main()
    part = json.loads(out.read_text())["parts"]["conditions"]
    assert (part["clips"], part["speakers"]) == (2, 2)
    assert [row["condition"] for row in part["rows"]] == list(CONDITIONS)
    assert part["rows"][0]["to_clean"] == 0
    assert "telephone" in capsys.readouterr().out

    # Another part is added to those of the same model.
    monkeypatch.setattr(sys, "argv", [*arguments, "--parts", "pictures"])
    trial_compact.main()
    assert set(json.loads(out.read_text())["parts"]) == {"conditions", "pictures"}
    assert "no --faces: real faces left out" in capsys.readouterr().out
