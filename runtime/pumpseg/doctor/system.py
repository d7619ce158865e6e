"""The machine: system, Python, processor, memory, and room on its disks."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from pumpseg.doctor.finding import FAULT, NOTE, OK, Finding
from pumpseg.inference.cpu import int8_dot_product, physical_cores

LITTLE_MEMORY = 512 * 2**20  # the runtime takes 150 to 400 MB
LITTLE_ROOM = 100 * 2**20
_PROBE_BYTES = 2**20


def check_system() -> list[Finding]:
    return [_system(), _python(), _processor(), _memory()]


def check_disks() -> list[Finding]:
    """Whether this folder, and that for temporary files, can be written and have room."""
    return [_disk("this folder", Path.cwd()), _disk("temporary files", _temporary_folder())]


def _system() -> Finding:
    release = platform.mac_ver()[0] if sys.platform == "darwin" else platform.release()
    return Finding("system", OK, f"{platform.system()} {release}, {platform.machine()}{_distribution()}")


def _distribution() -> str:
    try:
        return f", {platform.freedesktop_os_release()['PRETTY_NAME']}"
    except (OSError, KeyError, AttributeError):
        return ""


def _python() -> Finding:
    environment = "virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    return Finding("python", OK, f"{platform.python_implementation()} {platform.python_version()}, {environment}")


def _processor() -> Finding:
    instructions = int8_dot_product()
    int8 = f"fast int8 ({instructions})" if instructions else "no fast int8 instructions that the system names"
    cores = physical_cores() or os.cpu_count() or 1
    return Finding("processor", OK, f"{_processor_name()}, {cores} cores for this process, {int8}")


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> Finding:
    total = _total_memory()
    if total is None:
        return Finding("memory", NOTE, "the system does not say how much there is")
    size = f"{total / 2**30:.1f} GB"
    if total < LITTLE_MEMORY:
        return Finding("memory", NOTE, f"{size}: little for video", "use the model fast, one of --jobs, and no --tiles")
    return Finding("memory", OK, size)


def _total_memory(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int | None:
    """Bytes that this process may use: those of the machine, or of its control group (containers)."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _windows_memory()
    try:
        return min(total, int(limit.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return total


def _windows_memory() -> int | None:
    if sys.platform != "win32":
        return None
    import ctypes

    kilobytes = ctypes.c_ulonglong()
    if not ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)):
        return None
    return kilobytes.value * 1024


def _temporary_folder() -> Path:
    # tempfile.gettempdir() silently takes another folder where that of TMPDIR cannot be written.
    named = next(filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP"))), None)
    return Path(named or tempfile.gettempdir())


def _disk(topic: str, folder: Path) -> Finding:
    other = "set TMPDIR to a folder that has" if topic == "temporary files" else "change to a folder that has"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(topic, FAULT, f"cannot be written ({error.strerror})", f"{other} room and can be written")
    if free < LITTLE_ROOM:
        return Finding(topic, FAULT, f"only {free / 2**20:.0f} MB are free", f"delete something there, or {other} room")
    return Finding(topic, OK, f"can be written, {free / 2**30:.1f} GB free")
