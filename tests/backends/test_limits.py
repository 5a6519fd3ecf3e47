"""Cores and memory are those of the container, not of the machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elman.backends import limits
from elman.backends.cpu.threads import openmp
from elman.backends.limits import cpu_quota, memory_limit
from elman.runtime import recompute

NOTHING = float("inf")
GIB = 1 << 30
V1 = "31 25 0:28 {root} /sys/fs/cgroup/{name} rw shared:9 - cgroup cgroup rw,{name}"
V2 = "30 25 0:27 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"


def system(tmp_path: Path, groups: str, mounts: list[str], files: dict[str, str]) -> Path:
    """A root with /proc and /sys of a process in these groups."""
    written = {"proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join(mounts) + "\n"}
    written |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    return tmp_path


def test_version_2_takes_the_smallest_limit_up_to_the_root(tmp_path) -> None:
    files = {
        "a/cpu.max": "150000 100000",
        "a/b/cpu.max": "max 100000",
        "a/b/c/cpu.max": "400000 100000",
        "a/memory.max": str(4 * GIB),
        "a/b/memory.max": str(3 * GIB),
        "a/b/c/memory.max": "max",
        "other/cpu.max": "10000 100000",
        "other/memory.max": "4096",
    }
    root = system(tmp_path, "0::/a/b/c", [V2.format(root="/")], files)
    assert cpu_quota(root) == 1.5
    assert memory_limit(root) == 3 * GIB


def test_version_1_has_a_tree_for_each_kind(tmp_path) -> None:
    files = {
        "cpu,cpuacct/a/cpu.cfs_quota_us": "250000",
        "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
        "memory/m/memory.limit_in_bytes": str(GIB),
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    mounts = [V1.format(root="/", name="cpu,cpuacct"), V1.format(root="/", name="memory")]
    root = system(tmp_path, "4:memory:/m\n1:cpu,cpuacct:/a/b\n0::/", mounts, files)
    assert cpu_quota(root) == 2.5
    assert memory_limit(root) == GIB


@pytest.mark.parametrize(
    ("path", "seen"),
    [("/docker/7f", "/docker/7f"), ("/docker/7f", "/"), ("/", "/"), ("/../x", "/")],
)
def test_a_container_that_sees_a_part_of_the_tree(tmp_path, path, seen) -> None:
    """Its group is where the tree begins, whatever the path is called outside."""
    files = {"cpu.max": "50000 100000", "memory.max": str(GIB)}
    root = system(tmp_path, f"0::{path}", [V2.format(root=seen)], files)
    assert cpu_quota(root) == 0.5
    assert memory_limit(root) == GIB


@pytest.mark.parametrize(
    ("groups", "mounts", "files"),
    [
        ("", [], {}),
        ("0::/a", [V2.format(root="/")], {}),
        ("0::/a", [V2.format(root="/")], {"a/cpu.max": "max 100000", "a/memory.max": "max"}),
        ("0::/a", [V2.format(root="/")], {"a/cpu.max": "what", "a/memory.max": ""}),
        ("garbage\n:::\n0", ["garbage", "1 2 3 - cgroup2", "- cgroup"], {}),
        ("0::/a", [V2.format(root="/")], {"a/cpu.max": "100000 0"}),
    ],
)
def test_without_limits_there_are_none(tmp_path, groups, mounts, files) -> None:
    root = system(tmp_path, groups, mounts, files)
    assert cpu_quota(root) == NOTHING
    assert memory_limit(root) == NOTHING


def test_without_control_groups_at_all(tmp_path) -> None:
    assert cpu_quota(tmp_path) == memory_limit(tmp_path) == NOTHING


@pytest.mark.parametrize(("quota", "found"), [(1.5, 1), (0.3, 1), (2.0, 2), (7.9, 4), (NOTHING, 4)])
def test_the_number_of_cores_is_rounded_down_and_at_least_1(monkeypatch, quota, found) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(limits, "cpu_quota", lambda: quota)
    assert limits.cores.__wrapped__() == found


def test_a_run_takes_no_more_threads_than_there_are_cores(monkeypatch) -> None:
    monkeypatch.setattr(openmp.torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(limits, "cores", lambda: 3)
    assert openmp.max_threads() == 3


def test_automatic_memory_is_a_quarter_of_what_the_process_has(monkeypatch) -> None:
    monkeypatch.setattr(limits, "memory_limit", lambda: GIB)
    monkeypatch.setattr(limits, "memory", limits.memory.__wrapped__)
    assert recompute.memory_budget("auto") == GIB // 4
    assert recompute.memory_budget(1000) == 1000


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity mask")
def test_one_core_of_the_mask_is_one_thread() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from elman.backends import limits; print(limits.cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1", done.stderr
