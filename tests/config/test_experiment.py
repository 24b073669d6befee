"""Configuration: errors that help, typed models, TOML in and out."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from vavl.config.baselines import MulTConfig, MulTSizes
from vavl.config.experiment import (
    MODEL_CONFIGS,
    DataConfig,
    ExperimentConfig,
    load_experiment,
    to_toml,
)
from vavl.config.models import VAVLConfig, VAVLSizes
from vavl.config.shipped import shipped
from vavl.errors import InputError, StoreError
from vavl.training.run_folder import check_configuration
from vavl.types import Modality

CONFIGS = list(shipped("experiments").values())
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


def test_problems_of_the_model_are_listed_with_all_others(tmp_path: Path) -> None:
    text = GOOD + '[model]\nname = "mult"\nwidht = 8\nlayers = 0\n[training]\nepochs = 0\n'
    with pytest.raises(InputError) as raised:
        load_experiment(write(tmp_path, text))
    message = str(raised.value)
    assert "3 problems" in message
    assert "model: unknown name 'widht'; did you mean 'width'?" in message
    assert "model.layers: Input should be greater than or equal to 1, got 0" in message
    assert "training.epochs" in message
    for table, reason in (
        ('name = "mul"', "model: name: unknown name 'mul'; did you mean 'mult'?"),
        ('name = "mult"\nresidual = true', "model: unknown name 'residual'"),
        ("width = 30", "model: width: expected an even multiple of heads=4, got 30"),
        ('preset = "paper"\nvisual_subsampling = 2', "model: acoustic_subsampling, visual_sub"),
        ('predictions = ["sound"]', "model.predictions.0: Input should be 'acoustic'"),
    ):
        with pytest.raises(InputError, match="1 problem") as raised:
            load_experiment(write(tmp_path, f"{GOOD}[model]\n{table}\n"))
        assert f"- {reason}" in str(raised.value)
    with pytest.raises(InputError, match="model: expected a table, got 'mult'"):
        load_experiment(write(tmp_path, 'model = "mult"\n' + GOOD))


def test_the_model_is_written_as_it_was_read(tmp_path: Path) -> None:
    """Runs are resumed, and studies find their models again, by what an experiment says."""
    for table in (
        {"preset": "small", "width": 96},
        {"width": 64, "head_widths": [64, 32], "dropout": 0},
        {"name": "vavl", "preset": "paper"},
        {"name": "mult", "heads": 2, "predictions": ["audiovisual"]},
    ):
        content = {"name": "x", "data": {"manifest": "m"}, "model": table}
        config = ExperimentConfig.model_validate(content)
        assert config.model_dump(mode="json")["model"] == table
        assert config.model_dump(mode="python")["model"] == table
        assert load_experiment(write(tmp_path, to_toml(config))) == config
        assert pickle.loads(pickle.dumps(config)) == config
    assert config.model_dump(exclude_defaults=True)["model"] == table
    small = ExperimentConfig.model_validate(content | {"model": {"preset": "small"}})
    assert "model" not in small.model_dump(exclude_defaults=True)


def test_a_run_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    """Its stored configuration has a sparse table of the model."""
    table = '[model]\npreset = "small"\nwidth = 96\n'
    config = load_experiment(write(tmp_path, GOOD + table), {"runs_dir": str(tmp_path)})
    stored = config.run_dir / "config.toml"
    stored.parent.mkdir()
    stored.write_text(f"{GOOD}{table}[training]\nschedule = 'joint'\n", encoding="utf-8")
    check_configuration(config)  # or an error that names the differences
    wider = load_experiment(stored, {"runs_dir": str(tmp_path), "model.width": 128})
    with pytest.raises(StoreError, match=r"model\.width: was 96, now 128"):
        check_configuration(wider)


def test_sizes_are_typed_and_follow_the_preset(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "[model]\nwidth = 96\nheads = 4\n")
    sizes = load_experiment(path).model
    assert isinstance(sizes, VAVLSizes)
    assert (sizes.width, sizes.head_widths, sizes.acoustic_subsampling) == (96, (128, 64), 4)
    assert isinstance(load_experiment(path, {"model.name": "mult"}).model, MulTSizes)


def test_sizes_may_be_given_as_an_object(tmp_path: Path) -> None:
    data = DataConfig(manifest=Path("m.parquet"))
    config = ExperimentConfig(
        name="x", data=data, model=MulTSizes(width=60, acoustic_subsampling=2)
    )
    again = load_experiment(write(tmp_path, to_toml(config)))
    for experiment in (config, again):
        model = experiment.build_model_config(
            acoustic_dim=3, visual_dim=3, categories=["a", "b"], attributes=[]
        )
        assert isinstance(model, MulTConfig)
        assert (model.width, model.layers, model.acoustic_subsampling) == (60, 5, 2)


def test_the_data_decide_on_predictions_unless_they_are_chosen(tmp_path: Path) -> None:
    known = {"acoustic_dim": 3, "visual_dim": 3, "categories": ["a", "b"], "attributes": []}
    sound = (Modality.ACOUSTIC,)
    config = load_experiment(write(tmp_path, GOOD))
    assert config.build_model_config(**known, trained=sound).predictions == sound
    chosen = load_experiment(write(tmp_path, GOOD), {"model.predictions": ["visual"]})
    assert chosen.build_model_config(**known).predictions == (Modality.VISUAL,)
    fusion = load_experiment(write(tmp_path, GOOD), {"model.name": "mult"})
    with pytest.raises(InputError, match="clips with sound and a face together for mult, got none"):
        fusion.build_model_config(**known, trained=sound)


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
    with pytest.raises(
        InputError, match="model: preset: unknown name '5'; expected one of paper, small"
    ):
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
