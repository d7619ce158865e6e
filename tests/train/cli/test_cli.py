"""pumpseg-train and pumpseg-eval: what they hand on, and one line for what is wrong."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from pumpseg_train.cli import data as data_command
from pumpseg_train.cli import evaluate as eval_command
from pumpseg_train.cli import train as train_command
from pumpseg_train.samples.config import AugmentationConfig
from pumpseg_train.training import fit as fit_module
from pumpseg_train.training.run import RunError, Settings


def one_line(capsys, command):
    """The one line on stderr, which must not be a traceback."""
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line]
    assert len(lines) == 1, error
    assert lines[0].startswith(f"{command}: ")
    return lines[0]


@pytest.fixture
def fitted(monkeypatch):
    """Notes what `fit` is called with instead of training."""
    calls = []

    def noted(settings, run, *, workers, distributed, verbose):
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


def test_train_refuses_the_folder_of_another_run(tiny_settings, tiny_run, capsys):
    command = [tiny_settings.data, "--out", str(tiny_run), "--size", "128"]
    assert train_command.main(command) == 2
    assert "another --out" in one_line(capsys, "pumpseg-train")


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
def test_train_tells_what_is_wrong_in_one_line(options, message, fruit, tmp_path, capsys):
    assert train_command.main([str(fruit), "--out", str(tmp_path / "run"), *options]) == 2
    assert message in one_line(capsys, "pumpseg-train")
    assert not (tmp_path / "run").exists()


def test_train_names_a_missing_data_set(tmp_path, capsys):
    assert train_command.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")]) == 2
    assert "nowhere/train/annotations.json does not exist" in one_line(capsys, "pumpseg-train")


def test_train_cannot_write_into_a_file(fruit, tmp_path, capsys):
    (tmp_path / "run").write_text("a file")
    assert train_command.main([str(fruit), "--out", str(tmp_path / "run")]) == 2
    assert "cannot write" in one_line(capsys, "pumpseg-train")


def test_an_interrupt_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "fit", interrupt)
    assert train_command.main(["data", "--out", str(tmp_path / "run")]) == 130
    assert "re-run the same command to resume" in one_line(capsys, "pumpseg-train")


def test_numbers_that_are_none_are_refused_by_the_parser(capsys):
    for options in (["--epochs", "many"], ["--learning-rate", "x"], []):
        with pytest.raises(SystemExit) as exit_info:
            train_command.main(["data", *options])
        assert exit_info.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_failing_run_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    def fail(*_, **__):
        raise RunError("the loss became nan")

    monkeypatch.setattr(fit_module, "fit", fail)
    assert train_command.main(["data", "--out", str(tmp_path / "run")]) == 2
    assert one_line(capsys, "pumpseg-train") == "pumpseg-train: error: the loss became nan"


def test_eval_prints_the_table_and_writes_json(tiny_onnx, fruit, tmp_path, capsys):
    negatives = tmp_path / "negatives"
    negatives.mkdir()
    for number in range(2):
        cv2.imwrite(str(negatives / f"{number}.png"), np.full((80, 100, 3), 200, np.uint8))
    target = tmp_path / "figures.json"
    command = [str(tiny_onnx), str(fruit), "--negatives", str(negatives), "--json", str(target), "--threads", "1"]
    assert eval_command.main(command) == 0

    head, names, box, mask, alarms = capsys.readouterr().out.splitlines()
    assert "at 96x96 on 2 photos" in head
    assert names.split() == ["ap", "ap50", "ap75", "small", "medium", "large"]
    assert box.split()[0] == "box"
    assert mask.split()[0] == "mask"
    assert re.fullmatch(r"false alarms at score 0\.5: \d of 2 negative photos, [\d.]+ in 100", alarms)

    figures = json.loads(target.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert float(box.split()[2]) == pytest.approx(figures["box"]["ap50"], abs=5e-4)
    assert box.split()[-1] == "nan"
    assert figures["mask"]["large"] is None
    assert figures["false_alarms"]["photos"] == 2
    assert all(photo.endswith(".png") and score >= 0.5 for photo, score in figures["false_alarms"]["alarms"])


def test_eval_takes_a_training_run_and_draws_a_report(tiny_run, fruit, tmp_path, capsys, step_by_step):
    assert (
        eval_command.main([str(tiny_run), str(fruit), "--report", str(tmp_path / "report"), "--threshold", "0.3"]) == 0
    )
    out = capsys.readouterr().out
    assert "at 96x96 on 2 photos" in out
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "confusion.png",
        "photos.csv",
        "precision_recall.png",
        "worst.jpg",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "2"], "--threshold 2.0: a score lies between 0 and 1"),
        (["--split", "test"], "test/annotations.json does not exist"),
        (["--negatives", "nowhere"], "nowhere holds no images"),
        (["--provider", "abacus"], "abacus"),
        (["--json", "nowhere/figures.json"], "nowhere/figures.json"),
    ],
)
def test_eval_tells_what_is_wrong_in_one_line(options, message, tiny_onnx, fruit, capsys):
    assert eval_command.main([str(tiny_onnx), str(fruit), *options]) == 2
    assert message in one_line(capsys, "pumpseg-eval")


def test_eval_writes_over_nothing_that_it_reads(tiny_onnx, fruit, capsys):
    for path in (tiny_onnx, fruit / "val" / "annotations.json"):
        before = path.read_bytes()
        assert eval_command.main([str(tiny_onnx), str(fruit), "--json", str(path)]) == 2
        assert "is an input" in one_line(capsys, "pumpseg-eval")
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("program", "main", "arguments", "message"),
    [
        ("pumpseg-train", train_command.main, ["--out", "run", "--bogus"], "unrecognized arguments: --bogus"),
        ("pumpseg-eval", eval_command.main, ["fast", "data", "--bogus"], "unrecognized arguments: --bogus"),
        (
            "pumpseg-eval",
            eval_command.main,
            ["fast", "data", "--threads", "0"],
            "--threads: must be a whole number from 1 to 1024",
        ),
        (
            "pumpseg-eval",
            eval_command.main,
            ["fast", "data", "--tiles", "17"],
            "--tiles: must be a whole number from 1 to 16",
        ),
        ("pumpseg-data", data_command.main, ["check", "data", "--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_a_wrong_option_is_one_line(program, main, arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in one_line(capsys, program)


def test_eval_names_a_missing_model_and_a_file_that_is_none(fruit, tmp_path, capsys):
    assert eval_command.main([str(tmp_path / "nowhere.onnx"), str(fruit)]) == 2
    assert "nowhere.onnx" in one_line(capsys, "pumpseg-eval")
    (tmp_path / "text.onnx").write_text("no model")
    assert eval_command.main([str(tmp_path / "text.onnx"), str(fruit)]) == 2
    assert "text.onnx" in one_line(capsys, "pumpseg-eval")


def test_a_missing_extra_is_named_in_one_line(capsys):
    from pumpseg_train.cli.command import run_command

    def lacks(module):
        def action():
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)

        return action

    assert run_command("pumpseg-train", lacks("keras")) == 2
    assert capsys.readouterr().err == (
        "pumpseg-train: error: No module named 'keras': pip install \"pumpseg[train]\"\n"
    )
    assert run_command("pumpseg-export", lacks("onnx")) == 2
    assert 'pip install "pumpseg[export]"' in capsys.readouterr().err
    assert run_command("pumpseg-train", lacks("jax")) == 2
    assert capsys.readouterr().err == (
        "pumpseg-train: error: No module named 'jax', which Keras is set to: set KERAS_BACKEND to tensorflow, "
        "or pip install jax\n"
    )


def test_a_backend_that_keras_does_not_know_is_one_line():
    program = (
        "import importlib, sys; from pumpseg_train.cli.command import run_command; "
        "sys.exit(run_command('pumpseg-train', lambda: importlib.import_module('keras') and None))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "jaxx"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "pumpseg-train: error: Unable to import backend : jaxx: set KERAS_BACKEND to tensorflow, jax or torch\n",
    )


def test_class_names_may_begin_with_a_byte_order_mark(tmp_path):
    from pumpseg_train.cli.weights import _read_classes

    (tmp_path / "names.txt").write_text("BG\nballoon\n", encoding="utf-8-sig")
    assert _read_classes(tmp_path / "names.txt", 1) == ("balloon",)
