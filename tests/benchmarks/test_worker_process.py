import dataclasses
import sys

import pytest

from pumpseg_bench.worker_process import WorkerError, WorkerProcess


def test_a_worker_is_a_process_of_its_own(setup):
    worker = WorkerProcess(setup.to_json()).opened()
    try:
        assert worker.cold_start > 0
        assert len(worker.ask("run", count=2)["steps"]["latency"]) == 2
        memory = worker.ask("memory")
        assert memory is None or 30e6 < memory < 5e9
        with pytest.raises(WorkerError, match="TypeError"):
            worker.ask("run")
        # It continues after a failure.
        assert len(worker.ask("instances")) == 1
    finally:
        worker.close()


def test_a_provider_that_does_not_load_says_so(setup):
    setup = dataclasses.replace(setup, provider="directml")
    with pytest.raises(WorkerError, match="directml exists on Windows only") as error:
        WorkerProcess(setup.to_json()).opened()
    assert (error.value.kind, error.value.advice) == ("ProviderError", "choose another one")


def test_the_death_of_a_worker_is_reported():
    code = "import sys; sys.stderr.write('no memory left\\n'); sys.exit(9)"
    with pytest.raises(WorkerError, match="ended with code 9: no memory left"):
        WorkerProcess("{}", (sys.executable, "-c", code)).opened()
