"""How much memory an HNSW graph takes to build, and how much there is: of the machine, and of the control group."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
GROUP_OF_PROCESS = Path("/proc/self/cgroup")
BESIDE_BYTES = 128 << 20  # the sample that is trained with, a page of vectors, and what is read for it


def memory_needed(count: int, dimensions: int, m: int) -> int:
    """Bytes that building a graph takes at most.

    A code of a byte per dimension; the neighbours; and where they begin (twice: that list is copied when it grows), a
    level, an id (twice, when it is written), a lock and marks of what was visited.
    """
    return int(count * (dimensions + 4 * neighbours_per_vector(m) + 64)) + BESIDE_BYTES


def neighbours_per_vector(m: int) -> float:
    """Room for so many numbers: 2 m on the lowest level, m on each above it, where one in m is; chance may make it more."""
    return 2 * m + 1.3 * m / (m - 1)


def memory_available() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    found = [_of_machine(), *(_left_in(folder) for folder in _groups())]
    return min((each for each in found if each is not None), default=None)


def _of_machine() -> int | None:
    for line in _read(MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _groups() -> list[Path]:
    """The folders of this process's control groups: its own, and those above it, which bound it as well."""
    folders = []
    for line in _read(GROUP_OF_PROCESS).splitlines():
        words = line.split(":", 2)
        if len(words) < 3:
            continue
        _, controllers, path = words
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUPS / "memory" if controllers else CGROUPS
        # A container sees its own group as the root.
        steps = [part for part in path.split("/") if part not in ("", "..")]
        folders += [root.joinpath(*steps[:depth]) for depth in range(len(steps) + 1)]
    return folders


def _left_in(folder: Path) -> int | None:
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, taken = _read(folder / limit), _read(folder / used)
        if most.isdecimal() and taken.isdecimal():
            # What is only cached of files is given back when memory is needed.
            given_back = sum(
                int(words[1])
                for line in _read(folder / "memory.stat").splitlines()
                if len(words := line.split()) == 2 and words[0] == cache
            )
            return max(0, int(most) - int(taken) + given_back)
    return None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
