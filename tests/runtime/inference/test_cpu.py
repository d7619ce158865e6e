import pytest

from pumpseg.inference import cpu as instructions
from pumpseg.inference.cpu import int8_dot_product, physical_cores

X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu {} sse4_2\nbugs\t\t:\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd {}\n"


@pytest.fixture
def machine(monkeypatch):
    """Pretends another system and processor."""

    def pretend(system, processor=""):
        monkeypatch.setattr(instructions.sys, "platform", system)
        monkeypatch.setattr(instructions.platform, "machine", lambda: processor)
        int8_dot_product.cache_clear()

    yield pretend
    int8_dot_product.cache_clear()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (X86.format("avx2 avx512f avx512_vnni"), "avx512_vnni"),
        (X86.format("avx2 avx_vnni"), "avx_vnni"),
        (X86.format("avx2 avx512f"), ""),
        (ARM.format("asimddp"), "asimddp"),
        (ARM.format("crc32"), ""),
        ("processor: 0\n", ""),
    ],
)
def test_linux_lists_instructions(text, name, tmp_path, machine):
    machine("linux")
    (tmp_path / "cpuinfo").write_text(text)
    assert int8_dot_product(tmp_path / "cpuinfo") == name


def test_nothing_is_known_where_there_is_no_list(tmp_path, machine):
    machine("linux")
    assert int8_dot_product(tmp_path / "gone") == ""


@pytest.mark.parametrize(
    ("system", "processor", "name"),
    [("darwin", "arm64", "asimddp"), ("darwin", "x86_64", ""), ("win32", "AMD64", ""), ("freebsd14", "arm64", "")],
)
def test_other_systems(system, processor, name, machine):
    machine(system, processor)
    assert int8_dot_product() == name


def test_hyper_threads_of_a_core_count_once(tmp_path, monkeypatch):
    for cpu in range(4):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        pair = f"{cpu % 2},{cpu % 2 + 2}\n"
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(pair)
    no_quota = tmp_path / "cpu.max"
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert physical_cores(tmp_path, no_quota) == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1, 3}, raising=False)
    assert physical_cores(tmp_path, no_quota) == 1
    assert physical_cores(tmp_path / "none", no_quota) == 2


@pytest.mark.parametrize(
    ("quota", "cores"), [("250000 100000", 3), ("1000 100000", 1), ("900000 100000", 8), ("max 100000", 8), ("?", 8)]
)
def test_a_container_quota_limits_the_cores(quota, cores, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu.max").write_text(quota)
    assert physical_cores(tmp_path, tmp_path / "cpu.max") == cores


def test_cores_where_the_system_does_not_say(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert physical_cores() == 0
