"""The command line as a user meets it: whole way, exit codes, error messages."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from sound_tracks import Track, write_tracks
from tiny import TinyCorpus
from voices import babble

from vavl import cli
from vavl.config.experiment import to_toml
from vavl.data.corpora import CORPORA
from vavl.training.experiment import train_experiment


@pytest.fixture(scope="module")
def trained(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished fold."""
    config = tiny_corpus.experiment(tmp_path_factory.mktemp("runs"), data__attributes=["arousal"])
    [fold] = train_experiment(config, only=["fold-0"])
    return fold.path


def in_new_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_torchrun_trains_and_does_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert cli.run(["evaluate", "runs/none"]) == 2
    assert "torchrun: expected `vavl train`, got evaluate" in capsys.readouterr().err
    assert cli.run(["train", "none.toml"]) == 2
    assert "none.toml" in capsys.readouterr().err
    assert cli.run(["train", "none.toml", "--engine", "ray", "--workers", "2"]) == 2
    assert "torchrun: expected --engine local, got --engine ray" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--folds", "fold-0", "fold-1"], ["--set", "training.epochs=2"], ["--epochs", "2"]],
)
def test_options_of_several_words_may_stand_before_the_file(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", *options, "none.toml"]) == 2
    assert "found none at none.toml" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--seeds", "0", "1"], ["--set", "training.epochs=2"]])
def test_so_may_those_of_a_study(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["study", *options, "none.toml"]) == 2
    assert "found none at none.toml" in capsys.readouterr().err


def test_importing_and_helping_do_not_load_torch() -> None:
    code = (
        "import sys, vavl, vavl.cli\n"
        "try: vavl.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'matplotlib', 'pyarrow', 'av'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = in_new_process("-c", code)
    assert done.stderr.strip() == "[]"
    for command in ("prepare", "extract", "train", "evaluate", "predict", "export", "demo"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "command",
    ["extract", "train", "evaluate", "predict", "export", "demo", "keys", "prepare"],
)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([command, "--help"]) == 0
    assert len(capsys.readouterr().out) > 200


@pytest.mark.parametrize("name", CORPORA)
def test_each_corpus_has_a_command_with_its_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    function = CORPORA[name]
    for spelling in (name, name.replace("_", "-")):
        with pytest.raises(SystemExit) as done:
            cli.main(["prepare", spelling, "--help"])
        assert done.value.code == 0
        shown = capsys.readouterr().out
        assert "--progress" not in shown
        for parameter in set(signature(function).parameters) - {"progress"}:
            option = "ROOT" if parameter == "root" else f"{parameter.replace('_', '-')} "
            assert option in shown
        assert f"data/{name}" in shown
        assert "Raises" not in shown


def test_from_corpus_to_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare = ["prepare", "synthetic", "--out", "corpus", "--speakers", "4", "--no-video"]
    assert cli.run([*prepare, "--clips-per-speaker", "6"]) == 0
    table = "corpus/manifest.parquet"
    extract = ["extract", table, "--out", "stores", "--acoustic", "logmel", "--visual", "arrays"]
    assert cli.run(extract) == 0
    assert "24 already there" not in capsys.readouterr().out
    assert cli.run(extract) == 0
    assert "24 already there" in capsys.readouterr().out
    Path("experiment.toml").write_text(
        'name = "x"\n[data]\nmanifest = "corpus/manifest.parquet"\nacoustic = "stores/acoustic"\n'
        'visual = "stores/visual"\nkfold = 2\n[model]\nwidth = 16\nheads = 2\n'
    )
    assert cli.run(["train", "experiment.toml", "--epochs", "1", "--threads", "1"]) == 0
    assert cli.run(["evaluate", "runs/x", "--replicates", "50", "--by", "speaker"]) == 0
    assert "## By speaker" in Path("runs/x/evaluation/scores.md").read_text("utf-8")
    assert cli.run(["evaluate", "runs/x", "--by", "shoes"]) == 2
    out = capsys.readouterr().out
    assert "audiovisual" in out
    report = Path("runs/x/evaluation/report.html").read_text(encoding="utf-8")
    assert "<html" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    scores = json.loads(Path("runs/x/evaluation/scores.json").read_text())
    assert scores
    clip = sorted(Path("corpus/audio").glob("*.wav"))[0]
    assert cli.run(["predict", str(clip), "--model", "runs/x/fold-1", "--format", "json"]) == 0
    [prediction] = json.loads(capsys.readouterr().out)
    assert prediction["modality"] == "acoustic"
    assert cli.run(["export", "runs/x", "--out", "exported"]) == 2
    assert "expected one model, got the folds of runs/x" in capsys.readouterr().err
    card = Path("runs/x/README.md").read_text("utf-8")
    assert "| audiovisual |" in card
    assert cli.run(["train", "experiment.toml", "--epochs", "1", "--threads", "1", "--final"]) == 0
    assert "Next: vavl predict CLIP --model runs/x" in capsys.readouterr().out
    assert cli.run(["predict", str(clip), "--model", "runs/x", "--format", "json"]) == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["probabilities"] != prediction["probabilities"]
    assert "Trained on all speakers" in Path("runs/x/final/README.md").read_text("utf-8")
    assert "| audiovisual |" in Path("runs/x/final/README.md").read_text("utf-8")
    assert cli.run(["evaluate", "runs/x", "--replicates", "50"]) == 0
    assert cli.run(["evaluate", "runs/x/final", "--replicates", "50"]) == 2
    assert "nobody to test it on" in capsys.readouterr().err


def test_predict_from_any_subset_of_modalities(
    trained: Path, tiny_corpus: TinyCorpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterance = tiny_corpus.manifest[0]
    sound = tiny_corpus.manifest.path(utterance, "audio_path")
    face = tiny_corpus.manifest.path(utterance, "visual_features_path")
    assert sound is not None
    assert face is not None
    files = [
        shutil.copy(source, tmp_path / name)
        for source, name in (
            (sound, "both.wav"),
            (face, "both.visual.npy"),
            (sound, "sound.wav"),
            (face, "face.visual.npy"),
        )
    ]
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"this is no sound")
    arguments = ["predict", *map(str, files), "--model", str(trained)]
    assert cli.run([*arguments, "--format", "csv"]) == 0
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert {name: row["modality"] for name, row in rows.items()} == {
        "both": "audiovisual",
        "sound": "acoustic",
        "face": "visual",
    }
    for row in rows.values():
        assert sum(float(row[c]) for c in tiny_corpus.manifest.categories) == pytest.approx(
            1, abs=1e-4
        )
        assert 0 <= float(row["arousal"]) <= 1
    assert cli.run([*arguments, "--format", "csv", "--attribute-range", "1", "5"]) == 0
    for row in csv.DictReader(io.StringIO(capsys.readouterr().out)):
        unit = float(rows[row["name"]]["arousal"])
        assert float(row["arousal"]) == pytest.approx(1 + 4 * unit, abs=1e-5)
    # A broken file is reported, the others are predicted, and the exit code says so.
    with_broken = ["predict", "--model", str(trained), str(broken), *map(str, files)]
    assert cli.run(with_broken) == 3
    captured = capsys.readouterr()
    assert f"failed: {broken}: " in captured.err
    assert "both" in captured.out


def test_the_track_that_is_asked_for_is_heard(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voices = [Track(babble(1.0, pitch_hz=hz), tag) for hz, tag in ((110, "deu"), (220, "eng"))]
    film = write_tracks(tmp_path / "film.mka", voices)
    found = {}
    for asked in ([], ["--audio-track", "1"], ["--audio-track", "en"]):
        arguments = ["predict", str(film), "--model", str(trained), "--format", "json", *asked]
        assert cli.run(arguments) == 0
        [prediction] = json.loads(capsys.readouterr().out)
        found[" ".join(asked)] = prediction
    by_itself, first, english = found.values()
    assert [p["audio_track"] for p in found.values()] == [1, 1, 2]
    assert by_itself["warnings"][0].startswith("2 audio tracks: took 1 (deu), the first of 2 with")
    assert by_itself["probabilities"] == first["probabilities"] != english["probabilities"]
    assert cli.run(["predict", str(film), "--model", str(trained), "--audio-track", "fra"]) == 3
    assert "there are 1 (deu), 2 (eng)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "none.toml"], "expected a TOML file"),
        (["predict", "a.wav", "--audio-track", "0"], "audio_track: expected a number from 1"),
        (["train", "none.toml", "--epoks", "3"], "did you mean '--epochs'?"),
        (["pedict", "a.wav"], "got 'pedict'; did you mean 'predict'?"),
        (["prepare", "ravdes", "."], "got 'ravdes'; did you mean 'ravdess'?"),
        (["predict", "--workers", "x"], "--workers: expected a whole number, got 'x'"),
        (["predict", "--format", "cvs"], "got 'cvs'; did you mean 'csv'?"),
        (["predict", "--unsure-below", "x"], "--unsure-below: expected a number, got 'x'"),
        (["predict", "a.wav", "--plot"], "--plot: expected a value behind it, got nothing"),
        (["predict", "a.wav", "-x"], "-x: `vavl predict` has no such option"),
        (["predict", "--modle=x", "a.wav"], "--modle: `vavl predict` has no such option; did you"),
        (["stream", "a.mp4", "b.mp4"], "vavl stream: expected no further word, got 'b.mp4'"),
        (["enrol", "a.mp4"], "vavl enrol: expected also --speaker TEXT and --out PATH"),
        (["prepare", "crema_d"], "`vavl prepare crema-d --help` explains all options"),
        (["train", "--set", "epochs=3", "none.toml", "--folds", "f"], "found none at none.toml"),
        (["evaluate", "nowhere"], "expected a folder written by `vavl train`"),
        (["predict", "--model", "x"], "expected at least one file"),
        (["predict", "a.wav", "--workers", "2"], "--workers: expected --out"),
        (["predict", "a.wav", "--engine", "ray"], "--engine ray: expected --out"),
        (["predict", "a.wav", "--out", "x", "--gpus", "1"], "--gpus: expected --engine ray"),
        (["predict", "a.wav", "--format", "csv", "--out", "o"], "--format: expected no --out"),
        (["predict", "a.wav", "--format", "srt", "--timeline"], "--format table, json or csv"),
        (
            ["predict", "a.wav", "--format", "csv", "--timeline", "--segments"],
            "--timeline, --segments: expected one of them",
        ),
        (["predict", "a.wav", "--attribute-range", "5", "1"], "scale: expected low < high"),
        (["predict", "a.wav", "--attribute-range", "1", "5", "--out", "o"], "keep 0 to 1"),
        (["predict", __file__, "--attribute-range", "1", "5"], "expected a model with attributes"),
        (["predict", "a.wav", "--faces", "f", "--out", "o"], "--faces: expected no --out"),
        (["extract", "m", "--out", "s", "--visual", "arrays", "--speed", "2"], "--speed: expected"),
        (["extract", "m", "--out", "s", "--acoustic", "a", "--partition", "p"], "--partition: exp"),
        (
            ["extract", "m", "--out", "s", "--acoustic", "a", "--gpus", "1"],
            "--gpus: expected --eng",
        ),
        (["extract", "m", "--out", "s", "--visual", "a", "--window-s", "9"], "--window-s: expect"),
        (["predict", __file__, "--device", "cuda:99"], "device: 'cuda:99' cannot be used here"),
        (["predict", "pyproject.npy", "--model", "x"], "pyproject.npy does not exist"),
        (["predict", __file__, "gone.mp4", "--out", "o"], "gone.mp4 does not exist"),
        (["enrol", "gone.mp4", "--speaker", "a", "--out", "o"], "gone.mp4 does not exist"),
        (["predict", __file__, "--segments-from", "gone.srt"], "gone.srt does not exist"),
        (["predict", __file__, "--overlay", "a.mov"], "overlay: expected a file that ends in .mp4"),
        (["predict", __file__, "--plot", "a.gif"], "plot: expected a file that ends in .pdf"),
        (["extract", "m.parquet", "--out", "s"], "expected at least one extractor"),
        (
            [
                "extract",
                "--acoustic",
                "hf:x",
                "--layer",
                "2",
                "--layer",
                "3",
                "m.parquet",
                "--out",
                "s",
            ],
            "manifest: m.parquet does not exist",
        ),
        (["prepare", "folder", "nowhere"], "labels.csv"),
        (["stream", "--video-pipe", "640x480"], "640x480@25, got '640x480'"),
    ],
)
def test_bad_input_ends_with_code_2_and_a_reason(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert "Traceback" not in captured


def test_a_full_disk_has_a_code_of_its_own(
    trained: Path, write_wav, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of results, in an overlay or a plot, and where the output goes."""
    clip = str(write_wav(babble(1.0), "talk.wav"))
    predict = ["predict", clip, "--model", str(trained)]
    command = [sys.executable, "-m", "vavl", "keys"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 4
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "file")

    monkeypatch.setattr("vavl.system.atomic.os.replace", no_space)
    assert cli.run([*predict, "--out", str(tmp_path / "out")]) == 4
    assert cli.run([*predict, "--plot", str(tmp_path / "plot.png")]) == 4
    monkeypatch.setattr("vavl.system.atomic.os.replace", lambda *_: no_permission())
    assert cli.run([*predict, "--plot", str(tmp_path / "plot.png")]) == 2


def no_permission() -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "file")


def test_the_card_of_a_model_is_printed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["model-card"]) == 0
    assert "## Licence" in capsys.readouterr().out
    assert cli.run(["model-card", str(trained)]) == 2
    assert "has no card" in capsys.readouterr().err


def test_features_of_another_extractor_are_refused(
    tiny_corpus: TinyCorpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store that a run names was made again in another way after training."""
    folder = tmp_path / "corpus"
    shutil.copytree(tiny_corpus.folder, folder)
    corpus = TinyCorpus(tiny_corpus.manifest, folder)
    config = corpus.experiment(tmp_path)
    train_experiment(config, only=["fold-0"])
    shutil.rmtree(folder / "stores" / "acoustic")
    extract = ["extract", str(folder / "manifest.parquet"), "--out", str(folder / "stores")]
    assert cli.run([*extract, "--acoustic", "logmel", "--normalization", "none"]) == 0
    assert cli.run(["evaluate", str(config.run_dir)]) == 2
    assert "made by another extractor" in capsys.readouterr().err


def test_wrong_dimension_is_named(trained: Path, tmp_path: Path) -> None:
    import numpy as np

    import vavl
    from vavl.errors import InputError

    recognizer = vavl.load(trained)
    with pytest.raises(InputError, match=r"expected \(B, T, 80\)"):
        recognizer.predict(acoustic=np.zeros((5, 7)))
    with pytest.raises(InputError, match="at least one of them"):
        recognizer.predict()
    with pytest.raises(InputError, match="T >= 1"):
        recognizer.predict(acoustic=np.zeros((0, 80)))
    with pytest.raises(InputError, match="NaN or infinity"):
        recognizer.predict(acoustic=np.full((5, 80), np.nan))


def test_a_stored_configuration_can_be_trained_again(
    tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    config = tiny_corpus.experiment(tmp_path / "first", training__epochs=1)
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    second = ["--runs-dir", str(tmp_path / "second"), "--folds", "fold-0"]
    assert cli.run(["train", str(path), *second]) == 0
    assert (tmp_path / "second" / "tiny" / "fold-0" / "model.safetensors").is_file()


def test_segments_of_a_clip_and_of_a_folder(
    tmp_path: Path, write_wav, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = np.concatenate([np.pad(babble(1.5, seed=seed), 8_000) for seed in (0, 1)])
    clip = str(write_wav(sound, "clips/talk.wav"))
    assert cli.run(["predict", clip, "--format", "vtt", "--start", "0:02", "--end", "5.0"]) == 0
    head, _, times, cue = capsys.readouterr().out.splitlines()
    assert (head, cue[0]) == ("WEBVTT", "[")
    start, _, end = times.partition(" --> ")
    assert "00:00:02.8" < start < "00:00:03.1" < "00:00:04.4" < end < "00:00:04.8"
    (tmp_path / "talk.srt").write_text("1\n00:00:00,400 --> 00:00:02,100\nAnn: Hello\n")
    given = ["predict", clip, "--segments-from", str(tmp_path / "talk.srt")]
    assert cli.run([*given, "--format", "json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert list(found["speakers"]) == ["Ann"]
    assert found["segments"][0]["text"] == "Hello"
    assert cli.run([*given, "--out", str(tmp_path / "out"), "--format", "srt"]) == 0
    assert "Ann: [" in (tmp_path / "out" / "srt" / "talk.srt").read_text()
    capsys.readouterr()
    for arguments, message in (
        (
            [clip, str(tmp_path / "talk.srt"), "--format", "srt"],
            "--format srt: expected a single clip",
        ),
        ([clip, "--start", "1:99"], "--start: expected seconds or 1:02:03.5, got '1:99'"),
        ([clip, "--timeline", "--format", "rttm"], "--timeline: expected --format table, json or"),
        ([clip, str(tmp_path / "talk.srt"), "--plot", "a.png"], "expected a folder for 2 clips"),
        ([clip, "--plot", "a.png", "--end", "1"], "--plot, --overlay: expected no --start"),
    ):
        assert cli.run(["predict", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_names_that_are_no_text_and_terminals_of_ascii(
    trained: Path, write_wav, tmp_path: Path
) -> None:
    name = os.fsencode(tmp_path) + b"/b\xff.wav"
    Path(os.fsdecode(name)).write_bytes(Path(write_wav(babble(1.0))).read_bytes())
    command = [sys.executable, "-m", "vavl", "predict", name, "--model", str(trained)]
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for options in ([], ["--out", str(tmp_path / "out")]):
        done = subprocess.run(
            [*command, *options], env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert r"b\udcff.wav" in (tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8")


def test_who_reads_the_beginning_alone(trained: Path, write_wav) -> None:
    clip = str(write_wav(babble(3.0), "talk.wav"))
    command = [sys.executable, "-m", "vavl", "predict", clip, "--model", str(trained), "--timeline"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(120) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other systems are other ones")
def test_too_little_memory_is_said(write_wav) -> None:
    clip = write_wav(babble(1.0), "talk.wav")
    command = f"ulimit -v 700000; exec {sys.executable} -m vavl predict {clip}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not enough memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_arguments_that_are_empty_or_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["predict", ""]) == 2
    assert "no empty argument" in capsys.readouterr().err
    extract = ["extract", "m.csv", "--out", "s", "--visual", "arrays", "--threads"]
    for threads in ("100000", "0", "-1"):
        assert cli.run([*extract, threads]) == 2
        assert "--threads: expected 1 to" in capsys.readouterr().err
