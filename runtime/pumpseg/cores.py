"""How many physical cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def physical_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Physical cores that this process may run on, at least 1; 0 where the system does not tell.

    Two hyper-threads of a core count once. The process's CPU affinity and the CPU quota of its control group
    (containers) are respected.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    logical = os.sched_getaffinity(0)
    cores = set()
    for cpu in logical:
        siblings = topology / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        try:
            cores.add(siblings.read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(cpu))
    return max(1, min(len(cores), _quota()))


def _quota(limit_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Whole cores that the control group may use up, rounded up; a very large number without a limit."""
    unlimited = 1 << 20
    try:
        quota, period = limit_file.read_text(encoding="ascii").split()
        return unlimited if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return unlimited
