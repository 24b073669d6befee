"""A whole study on the tiny corpus: killed and resumed, with a variant that fails, extended."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from filelock import FileLock
from studies.conftest import STUDY, Write
from tiny import TinyCorpus

import vavl
from vavl.cli import run
from vavl.data.manifest import Manifest
from vavl.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_PARTIAL, InputError, StoreError
from vavl.evaluation.evaluate import evaluate_runs
from vavl.evaluation.views import View
from vavl.features.extract import extract
from vavl.features.registry import build_extractor
from vavl.studies import run as study_run
from vavl.studies.config import StudyConfig, load_study
from vavl.studies.plan import Plan, make_plan
from vavl.studies.results import StudyResults, Verdict, collect
from vavl.studies.run import begin, is_done, run_tasks
from vavl.studies.tables import write_study

FILES = ("results.md", "results.tex", "results.csv", "folds.csv", "differences-uar.svg")


def finish(study: StudyConfig, out: Path, workers: int = 0) -> tuple[Plan, StudyResults]:
    plan = make_plan(study, out)
    changes = begin(plan)
    results = collect(plan, run_tasks(plan, workers=workers, progress=False), changes)
    write_study(results, plan.folder)
    return plan, results


@pytest.fixture(scope="module")
def whole(study: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished study; to be read, or copied."""
    out = tmp_path_factory.mktemp("whole")
    finish(study, out)
    return out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def contents(plan: Plan) -> dict[str, bytes]:
    return {name: (plan.folder / name).read_bytes() for name in FILES}


def test_killed_half_way_and_resumed_gives_the_same_table(
    write: Write, study: StudyConfig, whole: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "vavl", "study", str(write()), "--out", str(tmp_path / "cut")]
    source = str(Path(vavl.__file__).parents[1])
    process = subprocess.Popen(
        [*command, "--workers", "2"],
        env={**os.environ, "PYTHONPATH": source},
        stderr=subprocess.DEVNULL,
    )
    plan = make_plan(study, tmp_path / "cut")
    deadline = time.monotonic() + 600  # much more than it takes, unless the machine is busy
    while not any(is_done(task) for task in plan.tasks) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = sum(is_done(task) for task in plan.tasks)
    assert 0 < done < len(plan.tasks)
    assert not (plan.folder / "results.md").exists()
    resumed, _ = finish(study, tmp_path / "cut")
    assert contents(resumed) == contents(make_plan(study, whole))


def test_the_report_says_what_the_study_asked(study: StudyConfig, copied: Path) -> None:
    plan, results = finish(study, copied)
    assert [v.name for v in results.variants] == list(plan.variants)
    assert len(plan.tasks) == 8  # two trainings, two folds, two seeds: views share their models
    with (plan.folder / "results.csv").open(newline="") as file:
        rows = {(row["variant"], row["metric"]): row for row in csv.DictReader(file)}
    assert len(rows) == 6 * 2
    # The reference, and the reference by another name, are compared with nothing.
    assert rows["vavl", "uar"]["difference"] == rows["no sound 0", "uar"]["difference"] == ""
    assert rows["no sound 0", "uar"]["pooled"] == rows["vavl", "uar"]["pooled"]
    assert rows["no sound 1", "uar"]["view"] == "visual"
    assert float(rows["average", "uar"]["p_holm"]) >= float(rows["average", "uar"]["p"])
    with (plan.folder / "folds.csv").open(newline="") as file:
        scores = [r for r in csv.DictReader(file) if (r["variant"], r["metric"]) == ("vavl", "uar")]
    assert {(r["seed"], r["fold"]) for r in scores} == {
        (s, f) for s in "01" for f in ("fold-0", "fold-1")
    }
    mean = sum(float(row["score"]) for row in scores) / len(scores)
    assert mean == pytest.approx(float(rows["vavl", "uar"]["fold_mean"]), abs=1e-5)
    (claim,) = results.hypotheses
    assert claim.comparison is not None
    text = (plan.folder / "results.md").read_text("utf-8")
    assert f"| {claim.verdict} |" in text
    assert "No bridge over the shared layers." in text
    assert r"\midrule" in (plan.folder / "results.tex").read_text("utf-8")


def test_a_variant_that_fails_is_recorded_and_the_rest_goes_on(
    write: Write, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = STUDY.replace(
        "[[sweeps]]", "[variants.broken]\nset.training.learning_rate=1e30\n\n[[sweeps]]", 1
    )
    broken += '\n[[hypotheses]]\nclaim = "Never known."\nvariant = "broken"\nexpect = "> 0"\n'
    options = ["--out", str(copied), "--workers", "0"]
    assert run(["study", str(write(broken)), *options]) == EXIT_PARTIAL
    captured = capsys.readouterr()
    assert "failed: broken, seed 0, fold-0: training.learning_rate" in captured.err
    text = (copied / "tiny" / "results.md").read_text("utf-8")
    assert "broken: 4 of 4 models are missing: training.learning_rate" in text
    assert "| Never known. |" in text
    assert "| not run |" in text
    with (copied / "tiny" / "failures.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    # The study without it finds its models where they are, and leaves no failures behind.
    assert run(["study", str(write()), *options]) == EXIT_OK
    assert not (copied / "tiny" / "failures.csv").exists()
    assert "not complete" not in capsys.readouterr().out


def test_a_view_that_models_lack_costs_that_variant_alone(
    write: Write, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = """[variants."face, heard"]
set.data.acoustic = "none"
view = "acoustic"

[[sweeps]]"""
    path = write(STUDY.replace("[[sweeps]]", wrong, 1))
    assert run(["study", str(path), "--out", str(copied), "--workers", "0"]) == EXIT_PARTIAL
    shown = capsys.readouterr().out
    assert "not complete: face, heard: view: expected one of visual, got acoustic" in shown
    assert "without residual" in shown


def test_an_extended_study_keeps_its_models_and_tells_of_the_change(
    write: Write, study: StudyConfig, copied: Path
) -> None:
    plan, results = finish(study, copied)
    assert results.changes == ()
    times = [task.directory.summary_file.stat().st_mtime_ns for task in plan.tasks]
    more = STUDY.replace("> 0", "> -0.5").replace(
        "[[sweeps]]", '[variants.product]\nview = "product"\n\n[[sweeps]]', 1
    )
    extended, after = finish(load_study(write(more)), copied)
    assert [t.directory.summary_file.stat().st_mtime_ns for t in extended.tasks] == times
    assert any("expect" in change or "> -0.5" in change for change in after.changes)
    text = (extended.folder / "results.md").read_text("utf-8")
    assert "**The analysis was changed after the study was begun**" in text
    assert after.hypotheses[0].verdict in set(Verdict) - {Verdict.NOT_RUN}


def test_studies_with_the_same_base_share_their_models(write: Write, copied: Path) -> None:
    other = STUDY.replace('name = "tiny"', 'name = "other"').replace(
        "[variants.average]", "[variants.product]"
    )
    other = other.replace('view = "average"', 'view = "product"').replace(
        'against = "average"', 'against = "product"'
    )
    plan = make_plan(load_study(write(other)), copied)
    assert all(is_done(task) for task in plan.tasks)
    before = {task.directory.summary_file.stat().st_mtime_ns for task in plan.tasks}
    _, results = finish(plan.study, copied)
    assert results.variant("product") is not None
    assert {task.directory.summary_file.stat().st_mtime_ns for task in plan.tasks} == before
    assert sorted(path.name for path in copied.iterdir()) == ["models", "other", "tiny"]


def test_two_studies_do_not_train_in_one_folder(study: StudyConfig, copied: Path) -> None:
    with (
        FileLock(copied / "models" / ".lock"),
        pytest.raises(StoreError, match="expected no other study to train here"),
    ):
        finish(study, copied)
    finish(study, copied)


def test_no_study_is_called_as_the_folder_of_the_models(write: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another than 'models'"):
        make_plan(load_study(write(STUDY.replace('name = "tiny"', 'name = "models"'))), tmp_path)


def test_gaps_are_predicted_by_the_models_that_are_there(write: Write, copied: Path) -> None:
    gaps = STUDY.replace('key = "test.without_acoustic"', 'key = "test.acoustic_gaps"')
    plan, results = finish(load_study(write(gaps.replace("1.0]", "0.9]"))), copied)
    tables = {v.name: v for v in results.variants}
    assert tables["no sound 0"].scores == tables["vavl"].scores
    assert tables["no sound 0.9"].by_seed != tables["vavl"].by_seed
    assert len(list(plan.tasks[0].directory.path.glob("predictions-gaps*.parquet"))) == 2


KNOWN = """
name = "known"
base = "tiny.toml"
seeds = [0, 1]
folds = ["fold-0", "fold-1"]
reference = "stranger"
metrics = ["uar", "accuracy"]
replicates = 100
[variants.stranger]
test.known_clips = 0
[[sweeps]]
name = "mixed"
key = "test.known_clips"
test.draws = 2
values = [0, 2, 5, "all"]
[[sweeps]]
name = "face, one mood"
key = "test.known_clips"
test.known_category = "angry"
view = "visual"
values = [1, "all"]
"""


def test_known_clips_are_a_condition_and_their_number_a_curve(write: Write, copied: Path) -> None:
    plan, results = finish(load_study(write(KNOWN)), copied)
    tables = {v.name: v for v in results.variants}
    assert list(tables) == [
        "stranger",
        *(f"mixed {value}" for value in ("0", "2", "5", "all")),
        *("face, one mood 1", "face, one mood all"),
    ]
    # No model is trained for it, and nothing known is the clips as they are.
    assert len(plan.tasks) == 4
    assert tables["mixed 0"].scores == tables["stranger"].scores
    assert not tables["mixed 0"].comparisons
    assert tables["mixed all"].by_seed != tables["stranger"].by_seed
    # Each clip is scored in each draw, and all draws are averaged.
    assert len({v.scores["uar"].clips for v in results.variants}) == 1
    assert {seed for seed, _ in tables["mixed 2"].by_seed["uar"]} == {"0/0", "0/1", "1/0", "1/1"}
    assert {seed for seed, _ in tables["mixed all"].by_seed["uar"]} == {"0", "1"}
    pooled = [tables[name].scores["accuracy"].pooled.estimate for name in ("mixed 5", "stranger")]
    difference = tables["mixed 5"].comparisons["accuracy"].difference.estimate
    assert difference == pytest.approx(pooled[0] - pooled[1])
    assert not tables["stranger"].about
    for name, seen in (
        ("mixed 5", "other unlabelled clips of each test clip's speaker (5 of them)"),
        ("face, one mood all", "other angry clips of each test clip's speaker (all of them)"),
    ):
        assert seen in tables[name].about
    # The report draws the curve: the names of values stand on the axis.
    curve = (plan.folder / "curve-0-uar.svg").read_text("utf-8")
    assert ">all</text>" in curve
    assert "speaker (2 of them)" in (plan.folder / "results.md").read_text("utf-8")


def test_conditions_that_the_clips_cannot_meet_are_refused(write: Write, tmp_path: Path) -> None:
    text = KNOWN.replace("[0, 2, 5,", "[0, 2, 12,").replace('"angry"', '"no such mood"')
    text = text.replace(
        "[variants.stranger]", "[variants.fast]\ntest.average_variants = true\n[variants.stranger]"
    )
    with pytest.raises(InputError) as caught:
        make_plan(load_study(write(text)), tmp_path)
    for problem in (
        "variant 'mixed 12': known_clips: expected 12 other clips",
        "variant 'face, one mood 1': known_clips: expected 1 other 'no such mood' clips",
        "variant 'fast': average_variants: expected stores in data.acoustic_variants",
    ):
        assert problem in str(caught.value)


def test_variants_of_the_sound_are_averaged_in_a_study_as_in_an_evaluation(
    write: Write, tiny_corpus: TinyCorpus, faster_voices: Path, tmp_path: Path
) -> None:
    text = STUDY.replace(
        "[variants.average]",
        "[variants.speeds]\ntest.average_variants = true\n[variants.average]",
        1,
    ).replace("seeds = [0, 1]", "seeds = [0]")
    text = f"set.data.acoustic_variants = ['{faster_voices}']\n{text}"
    plan, results = finish(load_study(write(text)), tmp_path)
    run_dir = plan.tasks[0].experiment.run_dir
    expected = evaluate_runs([run_dir], replicates=20, average_variants=True).evaluation
    found = results.variant("speeds")
    assert found is not None
    score = found.scores["uar"].pooled.estimate
    assert score == pytest.approx(expected.score(View.AUDIOVISUAL, "uar").pooled.estimate)
    assert found.scores != results.variants[0].scores


def test_changed_data_are_refused(study: StudyConfig, copied: Path) -> None:
    plan, _ = finish(study, copied)
    provenance = plan.tasks[0].experiment.run_dir / "provenance.json"
    text = provenance.read_text("utf-8")
    provenance.write_text(text.replace('"manifest_sha256": "', '"manifest_sha256": "0'), "utf-8")
    with pytest.raises(StoreError, match=r"(?s)the manifest has other contents.*\(--out\)"):
        finish(study, copied)


def test_a_dry_run_lists_and_writes_nothing(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    arguments = ["study", str(write()), "--out", str(out), "--dry-run", "--seeds", "3"]
    compiled = Mock()
    monkeypatch.setattr(study_run, "compile_layers", compiled)
    assert run(arguments) == EXIT_OK
    compiled.assert_not_called()
    # What is timed is what would be trained.
    assert run([*arguments, "--set", "training.compile=true"]) == EXIT_OK
    compiled.assert_called()
    shown = capsys.readouterr().out
    assert "without residual: 2 of 2 models to train" in shown
    assert "Together 4 models in " in shown
    assert not out.exists()


def test_mistakes_are_found_before_anything_is_written(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = STUDY.replace("model.residual", "model.residuals").replace('"accuracy"', '"f2"')
    path = write(wrong)
    assert run(["study", str(path), "--out", str(tmp_path / "out")]) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert "did you mean 'residual'?" in message
    assert "metrics: expected some of accuracy, uar, f1_macro, f1_micro, got ['f2']" in message
    assert not (tmp_path / "out").exists()


def test_a_study_without_a_modality_is_kept_as_it_was_begun(write: Write, tmp_path: Path) -> None:
    study = load_study(write("set.data.visual = 'none'\n" + STUDY))
    plan = make_plan(study, tmp_path)
    assert begin(plan) == []
    assert load_study(plan.folder / "study.toml").set == {"data.visual": None}


def test_the_product_of_attributes_is_refused_before_training(write: Write, tmp_path: Path) -> None:
    text = "set.data.attributes = ['arousal']\n" + STUDY.replace("average", "product")
    make_plan(load_study(write(text)), tmp_path)
    attributes = text.replace('"accuracy"]', '"arousal_ccc"]')
    with pytest.raises(InputError, match="expected another than product for arousal_ccc"):
        make_plan(load_study(write(attributes)), tmp_path)


def test_variants_with_features_of_other_clips_are_refused(
    write: Write, tiny_corpus: TinyCorpus, tmp_path: Path
) -> None:
    part = Manifest(list(tiny_corpus.manifest)[3:], root=tiny_corpus.folder)
    extract(part, build_extractor("acoustic", "logmel-pitch"), tmp_path / "part", progress=False)
    text = f"""[variants.random]
set.data.acoustic = '{tmp_path / "part"}'

[[sweeps]]"""
    path = write(STUDY.replace("[[sweeps]]", text, 1))
    with pytest.raises(InputError, match="lacks 3 clips that another variant's store holds"):
        make_plan(load_study(path), tmp_path)
    whole = build_extractor("acoustic", "logmel-pitch")
    extract(tiny_corpus.manifest, whole, tmp_path / "part", progress=False)
    assert "random" in make_plan(load_study(path), tmp_path).variants
