"""pumpseg-train: what it passes on, and one line for what is wrong."""

import importlib.util
import os
import subprocess
import sys

import pytest

from pumpseg_train.cli import train as train_command
from pumpseg_train.samples.config import AugmentationConfig
from pumpseg_train.training import fit as fit_module
from pumpseg_train.training.run import RunError, Settings


@pytest.fixture
def fitted(monkeypatch):
    """Notes what `fit` is called with instead of training."""
    calls = []

    def noted(settings, run, *, workers, distributed, progress):
        assert (workers, distributed) in ((0, False), (3, True))
        calls.append((settings, run))

    monkeypatch.setattr(fit_module, "fit", noted)
    return calls


def test_train_hands_all_options_on(fitted, tmp_path, capsys):
    command = f"data --out {tmp_path}/run --epochs 3 --steps 4 --batch-size 5 --learning-rate 0.01 --size 320 --seed 7"
    more = "--auxiliary a b --paste-from c --distractors f --backgrounds d e --profile edge --patience 6"
    assert train_command.main([*command.split(), *more.split(), "--workers", "3", "--distributed"]) == 0
    assert fitted == [
        (
            Settings(
                data="data",
                auxiliary=("a", "b"),
                paste_from=("c",),
                distractors=("f",),
                backgrounds=("d", "e"),
                input_size=320,
                epochs=3,
                steps=4,
                batch_size=5,
                learning_rate=0.01,
                patience=6,
                seed=7,
            ),
            tmp_path / "run",
        )
    ]
    assert f"pumpseg-export {tmp_path}/run -o" in capsys.readouterr().out


def test_train_defaults_are_those_of_the_settings(fitted, tmp_path):
    assert train_command.main(["data", "--out", str(tmp_path / "run")]) == 0
    assert fitted[0][0] == Settings(data="data")


def test_options_override_what_is_set_and_that_the_config(fitted, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        'data = "data"\nclasses = ["pumpkin"]\nepochs = 3\nsteps = 4\nseed = 9\n'
        "[augmentation]\nmosaic_prob = 0.1\nmax_pasted = 3\n"
    )
    options = "--epochs 5 --set steps=6 --set epochs=7 --set augmentation.mosaic_prob=0.2"
    assert train_command.main(["--config", str(config), "--out", str(tmp_path / "run"), *options.split()]) == 0
    wanted = Settings(
        data="data", epochs=5, steps=6, seed=9, augmentation=AugmentationConfig(mosaic_prob=0.2, max_pasted=3)
    )
    assert fitted[0][0] == wanted


def test_the_settings_of_a_run_are_a_config_for_another(fitted, tiny_run, tiny_settings, tmp_path):
    assert train_command.main(["--config", str(tiny_run / "settings.toml"), "--out", str(tmp_path / "run")]) == 0
    assert fitted[0][0] == tiny_settings


def test_the_backend_is_chosen_before_keras_is_imported(tmp_path):
    program = (
        "import sys; from pumpseg_train.cli.train import main; main(sys.argv[1:]); "
        "import keras; print(keras.backend.backend())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "none"), "--out", str(tmp_path), "--backend", "tensorflow"]
    # Keras' backend on NumPy needs nothing installed.
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "numpy"}, capture_output=True, text=True)
    assert done.stdout == "tensorflow\n", done.stderr


def test_a_backend_that_is_not_what_keras_computes_with_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert train_command.main(["data", "--out", str(tmp_path / "run"), "--backend", "jax"]) == 2
    assert "--backend jax: Keras already runs on tensorflow" in capsys.readouterr().err


def test_a_backend_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert train_command.main(["data", "--out", str(tmp_path / "run"), "--backend", "torch"]) == 2
    assert "torch is not installed: pip install torch" in capsys.readouterr().err


def test_train_refuses_the_folder_of_another_run(tiny_settings, tiny_run, one_line):
    command = [tiny_settings.data, "--out", str(tiny_run), "--size", "128"]
    assert train_command.main(command) == 2
    assert "another --out" in one_line("pumpseg-train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "epochs: input should be greater than 0, not 0"),
        (["--steps", "-1"], "steps: input should be greater than 0, not -1"),
        (["--seed", "-1"], "seed: input should be greater than or equal to 0, not -1"),
        (["--set", "colour=1"], "there is no setting 'colour'"),
        (["--set", "augmentation.mosaic_prob=lots"], "--set augmentation.mosaic_prob=lots: not NAME=VALUE"),
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read: No such file"),
        (["--size", "100"], "multiples of 32"),
        (["--profile", "huge"], "unknown profile 'huge': choose from edge"),
        (["--auxiliary", "nowhere"], "nowhere/train/annotations.json does not exist"),
        (["--paste-from", "nowhere"], "nowhere/annotations.json does not exist"),
        (["--backgrounds", "nowhere"], "nowhere holds no images"),
    ],
)
def test_train_reports_what_is_wrong_in_one_line(options, message, fruit, tmp_path, one_line):
    assert train_command.main([str(fruit), "--out", str(tmp_path / "run"), *options]) == 2
    assert message in one_line("pumpseg-train")
    assert not (tmp_path / "run").exists()


def test_train_names_a_missing_data_set(tmp_path, one_line):
    assert train_command.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")]) == 2
    assert "nowhere/train/annotations.json does not exist" in one_line("pumpseg-train")


def test_train_cannot_write_into_a_file(fruit, tmp_path, one_line):
    (tmp_path / "run").write_text("a file")
    assert train_command.main([str(fruit), "--out", str(tmp_path / "run")]) == 2
    assert "cannot write" in one_line("pumpseg-train")


def test_an_interrupt_says_how_to_go_on(monkeypatch, tmp_path, one_line):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "fit", interrupt)
    assert train_command.main(["data", "--out", str(tmp_path / "run")]) == 130
    assert "re-run the same command to resume" in one_line("pumpseg-train")


def test_what_is_not_a_number_and_unknown_options_are_refused_by_the_parser(capsys):
    for options in (["--epochs", "many"], ["--learning-rate", "x"], ["--out", "run", "--bogus"], []):
        with pytest.raises(SystemExit) as exit_info:
            train_command.main(["data", *options])
        assert exit_info.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_failing_run_is_reported_in_one_line(monkeypatch, tmp_path, one_line):
    def fail(*_, **__):
        raise RunError("the loss became nan")

    monkeypatch.setattr(fit_module, "fit", fail)
    assert train_command.main(["data", "--out", str(tmp_path / "run")]) == 2
    assert one_line("pumpseg-train") == "pumpseg-train: error: the loss became nan"
