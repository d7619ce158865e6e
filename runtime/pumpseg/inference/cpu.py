"""What this process may use of the processor: physical cores, and instructions for int8 dot products."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
from pathlib import Path

# As Linux names them in /proc/cpuinfo: VNNI of AVX-512 and of AVX2, and ARM's SDOT and UDOT. ONNX Runtime and OpenVINO
# have kernels for each.
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "asimddp")
_WINDOWS_ARM_DOT_PRODUCT = 43  # PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE of winnt.h


@functools.cache
def int8_dot_product(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of this processor's instructions for int8 dot products; empty if it has none or the system does not say.

    Linux says so everywhere, macOS and Windows on ARM only.
    """
    if sys.platform == "linux":
        features = _features(cpuinfo)
        return next((name for name in _DOT_PRODUCTS if name in features), "")
    if platform.machine().lower() not in ("arm64", "aarch64"):
        return ""
    if sys.platform == "darwin":
        return "asimddp"  # every Apple chip that runs macOS has it
    if sys.platform == "win32":
        import ctypes

        return "asimddp" if ctypes.windll.kernel32.IsProcessorFeaturePresent(_WINDOWS_ARM_DOT_PRODUCT) else ""
    return ""


def _features(cpuinfo: Path) -> set[str]:
    """Features of the first processor, from the line that begins with "flags" (x86) or "Features" (ARM)."""
    try:
        with cpuinfo.open(encoding="ascii", errors="replace") as lines:
            line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return set()
    return set(line.partition(":")[2].split())


def physical_cores(
    topology: Path = Path("/sys/devices/system/cpu"), quota: Path = Path("/sys/fs/cgroup/cpu.max")
) -> int:
    """Physical cores that this process may use, at least 1; 0 where the system does not say.

    Two hyper-threads of a core count once. The process's CPU affinity and the CPU quota of its control group
    (containers) are respected; a quota is rounded up.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = topology / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        try:
            cores.add(siblings.read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(cpu))
    with contextlib.suppress(OSError, ValueError):  # no control group, or "max": no limit
        allowed, period = map(int, quota.read_text(encoding="ascii").split())
        return max(1, min(len(cores), -(-allowed // period)))
    return len(cores)
