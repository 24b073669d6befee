from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vavl.errors import InputError
from vavl.evaluation import plots, report
from vavl.evaluation.bootstrap import Interval
from vavl.evaluation.predictions import PredictionTable
from vavl.evaluation.report import notes, to_csv, to_markdown, write_report
from vavl.evaluation.scores import evaluate_tables
from vavl.evaluation.views import View, view_outputs
from vavl.evaluation.wording import number
from vavl.metrics import risk_coverage

Make = Callable[..., PredictionTable]
VOID = {"meta", "br", "link", "img"}


class Page(HTMLParser):
    """Reads a page, and checks that elements close in the order in which they open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> Iterator[str]:
        return (attrs[name] or "" for _, attrs in self.elements if name in attrs)


def history(epochs: int, measures: tuple[str, ...] = ("accuracy", "uar")) -> list[dict[str, Any]]:
    scores = {view: dict.fromkeys(measures, 0.5) for view in ("acoustic", "visual", "audiovisual")}
    return [
        {
            "epoch": epoch,
            "train": {"loss": 2 / epoch},
            "development": {"loss": 3 / epoch, **scores} if epoch != 2 else None,
            "seconds": 1.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def write(out: Path, tables: list[PredictionTable], **changes: Any) -> str:
    evaluation = evaluate_tables(
        tables, seeds=range(len(tables)) if len(tables) > 1 else None, replicates=30
    )
    options: dict[str, Any] = {"histories": {}, "config_text": "", "title": "Report"} | changes
    return write_report(evaluation, tables, out, **options).read_text("utf-8")


def sections(page: Page) -> list[str | None]:
    return [attrs.get("id") for tag, attrs in page.elements if tag == "section"]


def test_four_files_are_written_and_nothing_else(tmp_path: Path, make: Make) -> None:
    evaluation = evaluate_tables([make()], replicates=20)
    path = write_report(
        evaluation, [make()], tmp_path / "new" / "out", histories={}, config_text="", title="T"
    )
    assert path == tmp_path / "new" / "out" / "report.html"
    written = {file.name for file in path.parent.iterdir()}
    assert written == {"report.html", "scores.json", "scores.csv", "scores.md"}
    stored = json.loads((path.parent / "scores.json").read_text("utf-8"))
    assert stored == evaluation.to_dict()


@pytest.fixture(scope="module")
def full_table(make: Make) -> PredictionTable:
    """Everything that a report can show."""
    return make(attributes=("arousal",), unknown=0.1, without_sound=0.15, without_face=0.1)


@pytest.fixture(scope="module")
def full_page(full_table: PredictionTable, tmp_path_factory: pytest.TempPathFactory) -> str:
    runs = {"a": history(4), "b": history(6)}
    return write(tmp_path_factory.mktemp("full"), [full_table], histories=runs)


def test_the_page_needs_nothing_but_itself(full_page: str) -> None:
    page = Page(full_page)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    assert all(target.startswith("#") for target in page.values("href"))
    assert not list(page.values("src"))
    policy = next(attrs["content"] for _, attrs in page.elements if "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    addresses = re.findall(r"https?://[^\s\"'<]+", " ".join(page.text))
    assert addresses == []


def test_references_within_the_page_resolve(full_page: str) -> None:
    page = Page(full_page)
    ids = list(page.values("id"))
    assert len(ids) == len(set(ids))
    targets = {target[1:] for target in page.values("href")}
    for attribute in ("clip-path", "style"):
        targets |= {
            t for value in page.values(attribute) for t in re.findall(r"#([\w-]+)\)", value)
        }
    assert targets <= set(ids)
    contents = [target[1:] for target in page.values("href") if target[1:] in sections(page)]
    assert contents == sections(page)


def test_every_score_is_on_the_page(full_page: str, full_table: PredictionTable) -> None:
    text = " ".join(Page(full_page).text)
    evaluation = evaluate_tables([full_table], replicates=30)
    for score in evaluation.scores:
        assert number(score.pooled.estimate) in text
        shown = f"{number(score.pooled.low)} to {number(score.pooled.high)}"
        assert shown.replace("-", "\N{MINUS SIGN}") in text
    assert text.count("the learned fusion is") == len(evaluation.differences)


@pytest.mark.parametrize(
    ("options", "there", "not_there"),
    [
        ({}, {"categories", "missing", "folds", "fusion"}, {"attributes", "learning"}),
        (
            {"categories": (), "attributes": ("arousal",)},
            {"attributes", "missing", "fusion"},
            {"categories"},
        ),
        ({"attributes": ("arousal",)}, {"attributes", "categories"}, set()),
        ({"folds": 1}, {"categories"}, {"folds"}),
    ],
)
def test_sections_follow_what_the_model_predicts(
    tmp_path: Path, make: Make, options: dict[str, Any], there: set[str], not_there: set[str]
) -> None:
    found = set(sections(Page(write(tmp_path, [make(**options)]))))
    assert found >= there | {"scores", "reading", "setup"}
    assert not found & not_there


def test_an_acoustic_model_alone_gets_a_report(tmp_path: Path, make: Make, change: Make) -> None:
    table = make()
    alone = change(table, logits={"acoustic": table.logits["acoustic"]})
    page = Page(write(tmp_path, [alone]))
    assert not {"fusion", "missing"} & set(sections(page))
    assert "no face prediction for any clip" in " ".join(page.text)


def test_nothing_scored_still_makes_a_page(tmp_path: Path, make: Make) -> None:
    page = Page(write(tmp_path, [make(unknown=1.1, attributes=("arousal",))]))
    assert set(sections(page)) == {"scores", "reading", "setup"}


def test_one_speaker_makes_a_page_without_intervals(tmp_path: Path, make: Make) -> None:
    text = " ".join(Page(write(tmp_path, [make(speakers=1, folds=1)])).text)
    assert "no interval: it takes at least 6 speakers" in text
    assert "nan" not in text.lower().split()


def test_everything_is_escaped(tmp_path: Path, make: Make, change: Make) -> None:
    attack = '<img src=x onerror="alert(1)">'
    table = make(categories=(attack, "</svg>", "$\\frac{", "a\x00b\ud7ff喜び"), attributes=("<b>",))
    renamed = change(table, partitions=tuple(f"<i>{name}" for name in table.partitions))
    page = Page(
        write(
            tmp_path,
            [renamed],
            title=attack,
            config_text=f'name = "{attack}"\n{{{{ 7 * 7 }}}}',
            histories={attack: history(3)},
        )
    )
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "i"}
    text = "".join(page.text)
    assert text.count(attack) >= 4  # title, heading, configuration, run
    assert "{{ 7 * 7 }}" in text


def test_the_same_arguments_give_the_same_bytes(
    full_page: str, full_table: PredictionTable, tmp_path: Path
) -> None:
    runs = {"a": history(4), "b": history(6)}
    assert write(tmp_path, [full_table], histories=runs) == full_page


def test_the_page_stays_small(tmp_path: Path, make: Make) -> None:
    categories = tuple(f"category {number}" for number in range(8))
    attributes = ("arousal", "valence")
    tables = [
        make(clips=1500, categories=categories, attributes=attributes, model_seed=seed)
        for seed in range(2)
    ]
    runs = {f"run-{number}": history(30, ("accuracy", "arousal_ccc")) for number in range(3)}
    page = write(tmp_path, tables, histories=runs)
    assert len(page.encode()) < 1_200_000


def test_learning_curves_show_all_runs_until_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def section(runs: int) -> dict[str, Any]:
        found = report.learning_section({f"run-{n}": history(3) for n in range(runs)})
        assert found is not None
        return found

    one, three = section(1), section(3)
    assert one["overview"] == []
    assert [run["name"] for run in one["runs"]] == ["run-0"]
    assert len(three["overview"]) == 1
    assert [run["name"] for run in three["runs"]] == ["run-0", "run-1", "run-2"]
    monkeypatch.setattr(report, "_RUNS_SHOWN", 2)
    many = section(3)
    assert many["left_out"]
    assert many["runs"] == []
    assert many["overview"] == three["overview"]
    assert report.learning_section({"stopped at once": []}) is None


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"epoch": 1, "train": {"loss": None}, "development": None}],
        [{"epoch": 1, "train": {"loss": float("nan")}, "development": {"acoustic": {}}}],
        [{"epoch": 1}],
        history(1),
        history(3, ("arousal_ccc", "valence_ccc")),
    ],
)
def test_histories_with_gaps_are_drawn_as_far_as_they_go(lines: list[dict[str, Any]]) -> None:
    found = report.learning_section({"run": lines, "other": history(2)})
    assert found is not None
    assert found["count"] == (2 if lines else 1)
    assert all("<svg" in picture for run in found["runs"] for picture in run["pictures"])


def test_tables_of_another_evaluation_are_refused(tmp_path: Path, make: Make) -> None:
    evaluation = evaluate_tables([make()], replicates=5)
    other = make(categories=("a", "b", "c", "d"))
    with pytest.raises(InputError, match="tables: expected those that were evaluated"):
        write_report(evaluation, [other], tmp_path, histories={}, config_text="", title="T")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_earlier_report_alone(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [make()])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def broken(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(report, "_page", broken)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, [make(model_seed=1)])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_pictures_take_their_colours_from_the_page() -> None:
    svg = plots.intervals({View.ACOUSTIC: Interval(0.5, 0.4, 0.6)}, "accuracy")
    assert "var(--acoustic)" in svg
    assert "var(--ink)" in svg
    assert re.findall(r"(?:fill|stroke): #", svg) == []


def test_pictures_leave_the_settings_of_matplotlib_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plots.recall_bars({View.VISUAL: [Interval(float("nan"), 0, 1)]}, ["a"])
    assert dict(mpl.rcParams) == before


def test_the_page_tells_risk_against_coverage(full_page: str, full_table: PredictionTable) -> None:
    assert "Risk against coverage for each view" in full_page
    for view in (View.ACOUSTIC, View.VISUAL, View.AUDIOVISUAL):
        found = view_outputs(full_table, view)
        kept = found.present
        curve = risk_coverage(full_table.category_targets[kept], found.probabilities[kept])
        assert f"{view} {number(curve.aurc)}" in full_page


def test_few_clips_are_points_and_many_are_cells() -> None:
    rng = np.random.default_rng(0)
    few, many = (
        plots.agreement(rng.uniform(size=n), rng.uniform(size=n), View.VISUAL, (0, 1))
        for n in (40, 20_000)
    )
    assert few.count("<use") >= 40
    assert len(many) < 150_000


def test_scoring_and_printing_load_neither_matplotlib_nor_torch() -> None:
    """`vavl evaluate --help` must not wait for them."""
    code = (
        "import sys, vavl.evaluation.report, vavl.evaluation.compare;"
        "heavy = {'torch', 'matplotlib', 'sklearn', 'scipy', 'pyarrow', 'rich', 'jinja2'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_notes_say_what_weakens_the_numbers(make: Make) -> None:
    tables = [make(without_sound=0.2, model_seed=seed) for seed in range(2)]
    evaluation = evaluate_tables(tables, seeds=[4, 5], replicates=5)
    said = " ".join(notes(evaluation))
    assert "240 clips of 12 speakers in 3 partitions." in said
    assert "means over 2 seeds (4, 5)" in said
    assert f"{evaluation.without['acoustic']} clips have no sound" in said
    assert "no face" not in said
    assert "only 12 speakers" in said
    lone = evaluate_tables([make(speakers=1, folds=1)], replicates=5)
    assert "1 speaker can say nothing about others" in " ".join(notes(lone))


def test_csv_holds_every_number(table: PredictionTable) -> None:
    evaluation = evaluate_tables([table], replicates=20)
    rows = list(csv.DictReader(io.StringIO(to_csv(evaluation))))
    pooled = {
        (row["view"], row["measure"]): row
        for row in rows
        if (row["kind"], row["scope"]) == ("score", "pooled")
    }
    assert len(pooled) == len(evaluation.scores)
    for score in evaluation.scores:
        row = pooled[score.view, score.measure]
        assert float(row["estimate"]) == score.pooled.estimate
        assert float(row["low"]) == score.pooled.low
        assert int(row["clips"]) == score.clips
        assert row["std"] == ""  # a single seed has no spread
    kinds = [row["kind"] for row in rows]
    assert kinds.count("difference") == len(evaluation.differences)
    assert kinds.count("missing") == 11 * len(evaluation.missing_curves)
    folds = [row for row in rows if row["scope"] == "fold"]
    assert {row["partition"] for row in folds} == set(evaluation.partitions)


def test_markdown_tables_survive_awkward_names(make: Make, change: Make) -> None:
    table = make(clips=60, attributes=("a|b",))
    renamed = change(table, partitions=tuple(f"{name}|<x>\n" for name in table.partitions))
    text = to_markdown(evaluate_tables([renamed], replicates=5), "Title | <script>")
    assert "<script>" not in text
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 2 + 4 + 1
    for block in blocks:
        columns = {line.replace("\\|", "").count("|") for line in block}
        assert len(columns) == 1
