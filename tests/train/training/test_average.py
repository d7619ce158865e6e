"""The mean of runs: its weights, its figures, and what cannot be averaged."""

import json
import shutil

import h5py
import numpy as np
import pytest

from pumpseg_train.cli import train as train_command
from pumpseg_train.training.run import load_run, read_settings


@pytest.fixture(scope="module")
def other_run(tiny_run, tmp_path_factory):
    """The tiny run with every weight three higher."""
    run = tmp_path_factory.mktemp("runs") / "other"
    shutil.copytree(tiny_run, run)
    with h5py.File(run / "best.weights.h5", "r+") as file:
        file.visititems(lambda _, item: item.write_direct(item[()] + 3) if isinstance(item, h5py.Dataset) else None)
    return run


def weights(run):
    return [array for part in load_run(run).parts.values() for array in part.get_weights()]


def test_a_run_named_twice_counts_twice(tiny_run, tiny_settings, other_run, tmp_path, capsys):
    mean = tmp_path / "mean"
    runs = [str(tiny_run), str(other_run), str(tiny_run)]
    assert train_command.main(["--average-runs", *runs, "--out", str(mean)]) == 0
    for before, after in zip(weights(tiny_run), weights(mean), strict=True):
        np.testing.assert_allclose(after, before + 1, atol=1e-5)
    settings = read_settings(mean)
    assert settings.average_runs == tuple(runs)
    assert (settings.data, settings.seed) == (tiny_settings.data, tiny_settings.seed)
    ap = json.loads((mean / "best.json").read_text())["mask"]["ap"]
    assert f"mask AP {ap:.3f}" in capsys.readouterr().out


def test_the_mean_of_one_run_is_that_run_and_measures_as_it(tiny_run, tmp_path):
    assert train_command.main(["--average-runs", str(tiny_run), "--out", str(tmp_path / "mean")]) == 0
    for before, after in zip(weights(tiny_run), weights(tmp_path / "mean"), strict=True):
        np.testing.assert_array_equal(before, after)
    measured, wanted = (json.loads((run / "best.json").read_text()) for run in (tmp_path / "mean", tiny_run))
    assert measured["mask"]["ap"] == pytest.approx(wanted["mask"]["ap"], abs=0.02)


def test_runs_of_other_classes_are_not_averaged(tiny_run, tmp_path, capsys):
    melons = tmp_path / "melons"
    shutil.copytree(tiny_run, melons)
    path = melons / "settings.toml"
    path.write_text(path.read_text().replace('"pumpkin"', '"melon"'))
    assert train_command.main(["--average-runs", str(tiny_run), str(melons), "--out", str(tmp_path / "mean")]) == 2
    assert "melon" in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "3"], "leave --epochs out"),
        (["--set", "seed=1"], "leave --set out"),
        (["--seed", "0"], "leave --seed out"),
    ],
)
def test_options_of_a_training_do_not_go_with_average(options, message, tiny_run, tmp_path, capsys):
    assert train_command.main(["--average-runs", str(tiny_run), "--out", str(tmp_path / "mean"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()


def test_a_finished_mean_is_not_overwritten_and_an_unknown_run_is_named(tiny_run, tmp_path, capsys):
    assert train_command.main(["--average-runs", str(tiny_run), "--out", str(tiny_run)]) == 2
    assert "another average_runs" in capsys.readouterr().err
    assert train_command.main(["--average-runs", "nowhere", "--out", str(tmp_path / "mean")]) == 2
    assert "nowhere is not a training run" in capsys.readouterr().err
