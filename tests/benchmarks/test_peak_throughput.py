from pumpseg_bench.peak_throughput import PeakMeter


def test_the_peak_of_this_machine():
    meter = PeakMeter(1)
    assert meter.rounds == 0
    meter.run()
    peak = meter.peak()
    assert peak.threads == 1
    assert 0.1 < peak.float32 < 1e5
    assert 0.1 < peak.int8 < 1e5
