import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumpseg.inference import threads
from pumpseg.inference.threads import MAX_WORKERS, ThreadPlan, plan_threads, plan_turns


@pytest.mark.parametrize(
    ("cores", "options", "plan"),
    [
        (1, {}, ThreadPlan(1, 1)),
        (4, {}, ThreadPlan(4, 1)),
        (4, {"live": True}, ThreadPlan(1, 4)),
        (16, {}, ThreadPlan(MAX_WORKERS, 9)),
        (8, {"jobs": 3}, ThreadPlan(2, 3)),
        (2, {"jobs": 4}, ThreadPlan(1, 1)),
    ],
)
def test_files_get_a_thread_a_frame_and_cameras_all_threads_for_one(cores, options, plan):
    assert plan_threads(cores, **options) == plan


@given(st.integers(1, 128), st.integers(1, 16), st.booleans())
def test_no_core_is_left_idle_and_none_has_two_threads_while_jobs_allow(cores, jobs, live):
    plan = plan_threads(cores, live=live, jobs=jobs)
    assert 1 <= plan.workers <= MAX_WORKERS
    if jobs * plan.workers <= cores:
        assert jobs * plan.workers + plan.threads - 1 == cores


def test_all_physical_cores_are_used_by_default(monkeypatch):
    monkeypatch.setattr(threads, "physical_cores", lambda: 6)
    assert plan_threads() == ThreadPlan(6, 1)
    monkeypatch.setattr(threads, "physical_cores", lambda: 0)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: None)
    assert plan_threads() == ThreadPlan(1, 1)


def test_a_gpu_gets_two_frames_at_a_time():
    plan = ThreadPlan(8, 1)
    assert [plan.workers_on(name) for name in ("cpu", "openvino", "cuda")] == [8, 8, 2]
    assert ThreadPlan(1, 1).workers_on("cuda") == 1


@pytest.mark.parametrize(("cores", "cameras", "plan"), [(2, 4, (2, 1)), (8, 4, (4, 5)), (4, 1, (1, 4)), (1, 3, (1, 1))])
def test_frames_of_different_cameras_have_a_thread_each(cores, cameras, plan):
    assert plan_turns(cores, cameras) == ThreadPlan(*plan)
