"""Reading what a run leaves on disk."""

import csv

import h5py
import pytest


@pytest.fixture(scope="session")
def read_history():
    """The rows of a run's history.csv."""

    def read(run):
        with (run / "history.csv").open() as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture(scope="session")
def saved_arrays():
    """All arrays of a run's best weights."""

    def read(run):
        arrays = []
        with h5py.File(run / "best.weights.h5") as file:
            file.visititems(lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None)
        return arrays

    return read


@pytest.fixture(scope="session")
def metrics_of():
    """Metrics with a given AP."""
    from pumpseg_train.evaluation.metrics import AveragePrecision, Metrics

    def make(ap):
        figures = AveragePrecision(ap, *[0.0] * 5)
        return Metrics(figures, figures)

    return make
