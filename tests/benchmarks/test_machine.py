import time

from pumpseg_bench import machine


def test_the_machine_is_described_without_its_name():
    described = machine.describe()
    assert described.processor
    assert described.cores == machine.usable_cores() >= 1
    assert described.memory > 2**28
    assert {"python", "pumpseg", "numpy"} <= set(described.versions)


def test_load_of_this_process_is_not_that_of_others():
    meter = machine.ExternalLoadMeter([])
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        pass
    assert 0 <= meter.cores() <= 10 * machine.usable_cores()
