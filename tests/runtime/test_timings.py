from pumpseg.timings import Timings


def test_timings_add_stage_by_stage():
    assert Timings(1, 2, 3) + Timings(0.5, 0.25, 0) == Timings(1.5, 2.25, 3)
    assert Timings() + Timings(1, 2, 3) == Timings(1, 2, 3)
