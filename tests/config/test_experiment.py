"""Configuration: errors that help, TOML in and out, overrides."""

from __future__ import annotations

from pathlib import Path

import pytest

from vavl.config.experiment import MODEL_CONFIGS, ExperimentConfig, load_experiment, to_toml
from vavl.config.models import VAVLConfig
from vavl.config.overrides import as_assignments, known_keys, parse_assignments
from vavl.errors import InputError

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "experiments").glob("*.toml"))
FOR_ANY_MODEL = [path for path in CONFIGS if path.stem != "synthetic"]
"""That of the synthetic corpus has sizes of VAVL alone."""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experiment.toml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = 'name = "x"\n[data]\nmanifest = "m.parquet"\nacoustic = "a"\n'


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    config = load_experiment(path)
    config.build_model_config(
        acoustic_dim=512, visual_dim=35, categories=["a", "b"], attributes=config.data.attributes
    )


@pytest.mark.parametrize("path", FOR_ANY_MODEL, ids=lambda path: path.name)
def test_every_shipped_configuration_trains_any_model(path: Path) -> None:
    for name, cls in MODEL_CONFIGS.items():
        config = load_experiment(path, {"model.name": name})
        model = config.build_model_config(
            acoustic_dim=512, visual_dim=35, categories=["a", "b"], attributes=()
        )
        assert (type(model), model.name) == (cls, name)


def test_there_are_shipped_configurations() -> None:
    assert CONFIGS


def test_round_trip(tmp_path: Path) -> None:
    config = load_experiment(write(tmp_path, GOOD + "[training]\npatience = 3\n"))
    assert load_experiment(write(tmp_path, to_toml(config))) == config


def test_all_problems_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    text = GOOD + '[training]\nlearning_rte = 1\nepochs = 0\nschedule = "both"\n'
    with pytest.raises(InputError) as raised:
        load_experiment(write(tmp_path, text))
    message = str(raised.value)
    assert "3 problems" in message
    assert "did you mean 'learning_rate'?" in message
    assert "training.epochs" in message
    assert "'alternating' or 'joint'" in message


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        load_experiment(tmp_path / "none.toml")
    with pytest.raises(InputError, match="not valid TOML"):
        load_experiment(write(tmp_path, "name = "))
    with pytest.raises(InputError, match="expected a value, got none"):
        load_experiment(write(tmp_path, 'name = "x"\n'))


def test_names_of_runs_are_no_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name"):
        load_experiment(write(tmp_path, GOOD.replace('"x"', '"../x"')))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"width": 30}, "even multiple of heads"),
        ({"kernel": 4}, "odd"),
        ({"categories": []}, "at least one output"),
        ({"categories": ["a", "a"]}, "distinct"),
        ({"categories": ["a"]}, "at least two"),
        ({"widht": 3}, "did you mean 'width'"),
        ({"acoustic_subsampling": 17}, "acoustic_subsampling"),
    ],
)
def test_model_configuration_says_what_is_wrong(overrides: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "acoustic_dim": 3,
        "visual_dim": 3,
        "categories": ["a", "b"],
        **overrides,
    }
    with pytest.raises(InputError, match=message):
        VAVLConfig.preset("small", **arguments)  # type: ignore[arg-type]


def test_what_follows_from_the_data_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "[model]\nacoustic_dim = 80\ncategories = ['a', 'b']\n")
    with pytest.raises(InputError, match=r"expected no acoustic_dim, categories in \[model\]"):
        load_experiment(path)
    with pytest.raises(InputError, match="preset: unknown name 5"):
        load_experiment(write(tmp_path, GOOD + "[model]\npreset = 5\n"))


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match="did you mean 'small'"):
        VAVLConfig.preset("smal", acoustic_dim=3, visual_dim=3, categories=["a", "b"])


def test_paper_preset_does_not_subsample() -> None:
    config = VAVLConfig.preset("paper", acoustic_dim=3, visual_dim=3, categories=["a", "b"])
    assert config.acoustic_subsampling == config.visual_subsampling == 1
    with pytest.raises(InputError, match="no subsampling"):
        VAVLConfig.preset(
            "paper",
            acoustic_dim=3,
            visual_dim=3,
            categories=["a", "b"],
            acoustic_subsampling=4,
        )


def test_overrides_of_the_command_line() -> None:
    arguments = ["c.toml", "--epochs", "5", "--training.patience=none", "--folds", "fold-0"]
    assert as_assignments(arguments, ["folds"]) == [
        "c.toml",
        "--folds",
        "fold-0",
        "--set",
        "training.epochs=5",
        "training.patience=none",
    ]
    assert parse_assignments(["epochs=5", "patience=none", "data.categories=['a', 'b']"]) == {
        "training.epochs": 5,
        "training.patience": None,
        "data.categories": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--epoch", "did you mean 'epochs'"),
        ("--training.epoch", "did you mean 'training.epochs'"),
        ("--epochs", "expected a value behind it"),
    ],
)
def test_bad_overrides_are_named(argument: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_assignments(["c.toml", argument], [])


def test_explicit_set_and_short_overrides_go_together() -> None:
    arguments = ["c.toml", "--set", "training.patience=3", "--epochs", "5"]
    assert as_assignments(arguments, ["folds"]) == [
        "c.toml",
        "--set",
        "training.patience=3",
        "training.epochs=5",
    ]
    assert parse_assignments(["name=2024"]) == {"name": "2024"}


def test_every_key_is_described() -> None:
    keys = known_keys()
    assert {"name", "data.manifest", "model.width", "training.alpha"} <= set(keys)
    assert all(keys.values())
    assert set(ExperimentConfig.model_fields) - {"data", "model", "training"} <= set(keys)
