import pytest

from pumpseg.inference import cpu as instructions
from pumpseg.inference.cpu import int8_dot_product

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
