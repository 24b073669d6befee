"""Models by name: their sizes, their files, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from small_models import (
    ACOUSTIC,
    AUDIOVISUAL,
    NAMES,
    VISUAL,
    inputs,
    parameters,
    sized,
    tiny,
)

import vavl
from vavl.config.experiment import MODEL_CONFIGS, model_config_class
from vavl.errors import InputError, StoreError
from vavl.models.registry import MODELS, build_model, load_model


def test_each_configuration_has_one_model() -> None:
    assert list(MODEL_CONFIGS) == NAMES
    for config in MODEL_CONFIGS.values():
        assert len([m for m in MODELS if issubclass(config, m.config_class)]) == 1
        assert {"paper", "small"} <= set(config.presets)


# What the published sizes come to, for 1024/1408 inputs and six categories. Where a published
# module has weights that nothing uses, or that we leave out, its docstring says so.
BLOCK, HEAD = 6_323_200, 395_526  # of VAVL's conformers and heads, width 512
PUBLISHED = {
    "vavl": 53_884_818,
    "vavl+": 53_884_818,  # what is linear in the statistics is fitted, and no parameter
    "linear": 2,  # likewise: how much sound and face count
    "acoustic-conformer": 19_046_912 + 2 * BLOCK + HEAD,
    "visual-conformer": 19_066_112 + 2 * BLOCK + HEAD,
    "averaging": 19_046_912 + 19_066_112 + 4 * BLOCK + 2 * HEAD,
    "concatenation": 50 * (1024 + 1408) + 100 * 512 + 512 + 5 * BLOCK + HEAD,
    # 30 wide, four transformers of five layers; a layer has 12 d^2 + 13 d weights.
    "mult": 30 * (1024 + 1408)
    + 4 * (5 * (12 * 30**2 + 13 * 30) + 2 * 30)
    + 2 * (60**2 + 60)
    + (60 + 1) * 6,
    # 50 wide, six transformers of five layers; those of the memory have a gate per layer.
    "auxformer": 50 * (1024 + 1408)
    + 6 * (5 * (12 * 50**2 + 13 * 50) + 2 * 50)
    + 2 * 5
    + 2 * (100**2 + 100)
    + (100 + 1) * 6
    + (50 + 1) * 512
    + (512 + 1) * 256
    + (256 + 1) * 50
    + (50 + 1) * 6,
    # 1024 wide, nine layers of 12 d^2 + 10 d weights; sound already has that width.
    "uavm": 9 * (12 * 1024**2 + 10 * 1024)
    + 2 * (1024 + 1408 + 1024)
    + (1408 + 1) * 1024
    + 2 * 1024
    + (1024 + 1) * 6,
    # Convolutions of three taps with a bias, scale and shift; queries and keys; the classifier.
    "sfav": sum(
        3 * before * after + 3 * after
        for widths in ((1024, 64, 128, 256, 128), (1408, 64, 64, 128, 128))
        for before, after in itertools.pairwise(widths)
    )
    + (64 * 64 + 128 * 64)
    + (128 * 128 + 64 * 128)
    + (128 + 128 + 1) * 6,
}


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes_have_these_parameters(name: str) -> None:
    config = model_config_class(name).preset(
        "paper", acoustic_dim=1024, visual_dim=1408, categories=tuple("abcdef")
    )
    with torch.device("meta"):
        assert parameters(build_model(config)) == PUBLISHED[name]


def test_the_table_of_the_docs_is_true() -> None:
    page = Path(__file__).parents[2] / "docs" / "models" / "baselines.md"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    words = {ACOUSTIC: "sound", VISUAL: "face", AUDIOVISUAL: "both"}
    expected = []
    for name, cls in MODEL_CONFIGS.items():
        small = cls.preset("small", acoustic_dim=512, visual_dim=35, categories=tuple("abcdefgh"))
        with torch.device("meta"):
            count = parameters(build_model(small))
        able = ", ".join(words[p] for p in cls.possible_predictions())
        expected.append([f"`{name}`", f"{PUBLISHED[name]:,}", f"{count:,}", able])
    assert [[name, paper, small, able] for name, _, paper, small, able in rows] == expected


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    batch = inputs(model, acoustic=torch.randn(1, 9, 6), visual=torch.randn(1, 3, 4))
    assert torch.equal(loaded(**batch).prediction, model(**batch).prediction)
    if not isinstance(model, vavl.VAVL):
        with pytest.raises(StoreError, match=f"expected a VAVL model, got '{name}'"):
            vavl.VAVL.from_pretrained(tmp_path)


def test_an_unknown_model_in_a_folder_is_named(tmp_path: Path) -> None:
    tiny("mult").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"mult"', '"malt"'))
    with pytest.raises(InputError, match=r"config\.json: name: .* did you mean 'mult'"):
        load_model(tmp_path)


def test_what_a_model_cannot_read_or_do_is_refused() -> None:
    with pytest.raises(InputError, match="trained without visual"):
        tiny("acoustic-conformer")(visual=torch.randn(1, 3, 4))
    with pytest.raises(InputError, match=r"predictions: expected some of \['audiovisual'\]"):
        sized("mult", predictions=("acoustic",))
    with pytest.raises(InputError, match="even multiple of heads"):
        sized("uavm", width=9)
    with pytest.raises(InputError, match="acoustic_channels: expected channels"):
        sized("sfav", heads=3)
