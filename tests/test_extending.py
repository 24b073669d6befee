"""Extractors and models of others: the templates of docs/extending.md, made known in every way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny import TinyCorpus

import vavl
from vavl.config import plugins
from vavl.config.experiment import load_experiment
from vavl.errors import InputError
from vavl.features.registry import BUILDERS, build_extractor

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the two files of the page, where Python finds them."""
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        name = block.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in {"my_extractor", "my_model"} & set(sys.modules) - before:
        del sys.modules[name]
    BUILDERS["acoustic"].pop("loudness", None)  # type: ignore[index]


def vavl_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vavl", *arguments],
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_extractor_by_its_place(templates: Path) -> None:
    extractor = build_extractor("acoustic", "my_extractor:Loudness", window=800, speed=1.1)
    assert extractor.spec.extractor == "loudness"
    assert extractor.spec.parameters["window"] == 800
    assert build_extractor("acoustic", "loudness").spec.dim == 2  # known by now
    with pytest.raises(InputError, match="windw: not a parameter of it; did you mean 'window'"):
        build_extractor("acoustic", "my_extractor:Loudness", windw=800)
    with pytest.raises(InputError, match="expected one of visual features"):
        build_extractor("visual", "my_extractor:Loudness")
    with pytest.raises(InputError, match="no_such_module:Loudness: cannot be imported"):
        build_extractor("acoustic", "no_such_module:Loudness")


def test_both_together_from_the_command_line(
    templates: Path, tiny_corpus: TinyCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(templates)
    manifest = str(tiny_corpus.folder / "manifest.parquet")
    made = vavl_command("extract", manifest, "--out", "s", "--acoustic", "my_extractor:Loudness")
    assert made.returncode == 0, made.stderr
    Path("mine.toml").write_text(
        f'name = "mine"\n[data]\nmanifest = "{manifest}"\nacoustic = "s/acoustic"\nkfold = 2\n'
        '[model]\nname = "recurrent"\n[training]\nepochs = 1\nthreads = 1\n'
    )
    options = ["train", "mine.toml", "--folds", "fold-0", "--model.recurrent_width", "5"]
    unknown = vavl_command("train", "mine.toml")
    assert unknown.returncode == 2
    assert "unknown name 'recurrent'" in unknown.stderr
    plugin = {"VAVL_PLUGINS": "my_extractor, my_model"}
    trained = vavl_command(*options, **plugin)
    assert trained.returncode == 0, trained.stderr
    config = json.loads(Path("runs/mine/fold-0/config.json").read_text())
    assert (config["name"], config["recurrent_width"]) == ("recurrent", 5)
    clip = str(tiny_corpus.manifest.path(next(iter(tiny_corpus.manifest)), "audio_path"))
    predict = ["predict", clip, "--model", "runs/mine", "--format", "json"]
    known = vavl_command(*predict, **plugin)
    assert known.returncode == 0, known.stderr
    [answer] = json.loads(known.stdout)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    missing = vavl_command(*predict)
    assert missing.returncode == 2
    assert "unknown name 'recurrent'" in missing.stderr


def test_both_by_the_entry_points_of_a_package(templates: Path) -> None:
    """In a process of its own, since Python reads the metadata of packages once."""
    metadata = templates / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[vavl.extractors]\nacoustic.loudness = my_extractor:Loudness\n"
        "[vavl.models]\nrecurrent = my_model:Recurrent\n"
    )
    code = (
        "import torch\n"
        "from vavl.cli.options import known_keys\n"
        "from vavl.config.experiment import model_config_class\n"
        "from vavl.features.registry import build_extractor, extractor_names, rebuild_extractor\n"
        "from vavl.models.registry import build_model, load_model\n"
        "assert 'loudness' in extractor_names('acoustic')\n"
        "assert 'loudness' not in extractor_names('visual')\n"
        "spec = build_extractor('acoustic', 'loudness', window=200).spec\n"
        "assert rebuild_extractor(spec).spec.key == spec.key\n"
        "assert 'model.recurrent_width' in known_keys()\n"
        "config = model_config_class('recurrent').preset(\n"
        "    'small', acoustic_dim=2, visual_dim=3, categories=('a', 'b'))\n"
        "model = build_model(config).eval()\n"
        "model.save_pretrained('saved')\n"
        "x, y = torch.randn(2, 9, 2), torch.randn(2, 4, 3)\n"
        "out = model(acoustic=x, visual=y)\n"
        "again = load_model('saved')(acoustic=x, visual=y)\n"
        "assert torch.equal(out.audiovisual, again.audiovisual)\n"
        "alone = model(acoustic=x[:1, :6], visual=y[:1]).audiovisual\n"
        "beside = model(acoustic=x, acoustic_lengths=torch.tensor([6, 9]), visual=y).audiovisual\n"
        "torch.testing.assert_close(alone, beside[:1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=templates, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_nothing_that_a_model_folder_says_is_imported(
    templates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"schema_version": 1, "name": "my_model:Recurrent", "acoustic_dim": 2}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="unknown name 'my_model:Recurrent'"):
        vavl.load(folder)
    assert "my_model" not in sys.modules


def test_a_module_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, "no_such_module")
    plugins.import_named_modules.cache_clear()
    with pytest.raises(InputError, match="VAVL_PLUGINS: no_such_module cannot be imported"):
        build_extractor("acoustic", "loudnes")
    plugins.import_named_modules.cache_clear()


def test_mistakes_in_the_table_of_a_model_are_those_of_that_model(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(
        'name = "x"\n[data]\nmanifest = "m"\n[model]\nname = "mult"\nlayrs = 3\nwidth = "wide"\n'
    )
    with pytest.raises(InputError) as caught:
        load_experiment(path)
    assert "model: unknown name 'layrs'; did you mean 'layers'?" in str(caught.value)
    assert "model.width: " in str(caught.value)
    assert np.char.count(str(caught.value), "\n") == 2
