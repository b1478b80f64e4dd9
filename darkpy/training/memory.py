"""Whether a training fits into memory, known before its first step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from darkpy.errors import OutOfMemory
from darkpy.rehearsal import scratch_memory
from darkpy.text import quantity

if TYPE_CHECKING:
    from darkpy.config.net import NetOptions
    from darkpy.network import Network

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def available_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Bytes that can be had now without swapping; None where the system does not say.

    The smaller of what the system has free and what is left of the container's limit.
    """
    found = [value for value in (_free_in_system(meminfo), _free_in_container(cgroup)) if value is not None]
    return min(found, default=None)


def _free_in_system(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _free_by_sysconf()


def _free_by_sysconf() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _free_in_container(cgroup: Path) -> int | None:
    """Limit less use of the control group; pages of files count as used there but are given up when needed."""
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        files = [
            int(line.split()[1])
            for line in (cgroup / "memory.stat").read_text().splitlines()
            if line.split()[:1] in (["inactive_file"], ["active_file"])
        ]
    except (OSError, ValueError, IndexError):  # no control group, or no limit: it reads "max"
        return None
    return max(0, limit - used + sum(files))


def check_memory(network: Network, options: NetOptions, available: int | None, *, beside: int = 0) -> int:
    """Bytes a training needs at the network's present size; raises OutOfMemory if there are not as many.

    network: only asked for its plans, so one that only plans will do. options: the cfg's, with the batch (of sequences,
    where there are ``time_steps``) and subdivisions to train with. beside: bytes needed besides the network's own.
    available: None if unknown.

    The error names the fewest subdivisions, that is the largest mini-batch, that would fit.
    """
    needed = needed_memory(network, options.batch // options.subdivisions) + beside
    if available is None or needed <= available:
        return needed
    net = network.config.net
    wanted = f"batch={options.batch} subdivisions={options.subdivisions} at {network.width}x{network.height}"
    raise OutOfMemory(
        f"[{net.name}] training with {wanted} needs {quantity(needed, 'B')} of memory, {quantity(available, 'B')} are "
        f"free; {_advice(network, options, available, beside)}",
        where=net.where_of("subdivisions", "batch"),
    )


def _advice(network: Network, options: NetOptions, available: int, beside: int) -> str:
    """The fewest subdivisions that fit, or that none do."""
    subdivisions = fewest_subdivisions(network, options, available, beside=beside)
    if subdivisions is not None:
        needed = needed_memory(network, options.batch // subdivisions) + beside
        return f"subdivisions={subdivisions} would fit, with {quantity(needed, 'B')}"
    needed = needed_memory(network, 1) + beside
    return f"even one picture at a time needs {quantity(needed, 'B')}; make width and height smaller"


def fewest_subdivisions(network: Network, options: NetOptions, available: int, *, beside: int = 0) -> int | None:
    """The smallest number of subdivisions, that is the largest mini-batch, that fits; None if none does."""
    for subdivisions in range(1, options.batch + 1):
        mini_batch, rest = divmod(options.batch, subdivisions)
        if not rest and needed_memory(network, mini_batch, available - beside) + beside <= available:
            return subdivisions
    return None


def needed_memory(network: Network, batch: int, enough: int | None = None) -> int:
    """Bytes that a network needs for a (mini-)batch: its arrays, and on a device what its passes take beside them.

    A number beyond ``enough`` is not worked out to the end.
    """
    planned = network.memory_plan(batch).total
    return planned if enough is not None and planned > enough else planned + scratch_memory(network, batch)
