"""Generated functions on torch's threads."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from elman.backends import limits
from elman.backends.cpu.jit import library as jit
from elman.backends.cpu.jit import once
from elman.backends.cpu.threads import openmp

# mark: marks[thread] += 1 and sizes[thread] = n, where sizes begins at number 64 of the data.
# meet: the same, between two rounds of a barrier that counts in number 128.
# nest: launches meet, of which the data tells the address, from within a team.
MODULE = """
define void @mark(ptr %data, i64 %thread, i64 %n) {
  %mark = getelementptr i64, ptr %data, i64 %thread
  %size = getelementptr i64, ptr %mark, i64 64
  %old = atomicrmw add ptr %mark, i64 1 seq_cst
  store i64 %n, ptr %size
  ret void
}
define internal void @wait(ptr %counter, i64 %until) {
entry:
  %old = atomicrmw add ptr %counter, i64 1 seq_cst
  br label %spin
spin:
  %now = load atomic i64, ptr %counter seq_cst, align 8
  %all = icmp sge i64 %now, %until
  br i1 %all, label %done, label %spin
done:
  ret void
}
define void @meet(ptr %data, i64 %thread, i64 %n) {
  %counter = getelementptr i64, ptr %data, i64 128
  %twice = mul i64 %n, 2
  call void @wait(ptr %counter, i64 %n)
  call void @mark(ptr %data, i64 %thread, i64 %n)
  call void @wait(ptr %counter, i64 %twice)
  ret void
}
define void @nest(ptr %given, i64 %thread, i64 %n) {
  %launch = load ptr, ptr %given
  %table_at = getelementptr ptr, ptr %given, i64 1
  %table = load ptr, ptr %table_at
  %place = add i64 %thread, 2
  %data_at = getelementptr ptr, ptr %given, i64 %place
  %data = load ptr, ptr %data_at
  call void %launch(ptr %table, ptr @meet, ptr %data, i64 2, i64 2)
  ret void
}
"""


class Data:
    """What the functions of the module mark."""

    def __init__(self):
        self.numbers = (ctypes.c_int64 * 129)()
        self.address = ctypes.addressof(self.numbers)

    def run(self, name, threads):
        self.numbers[128] = 0
        openmp.run(jit.load(MODULE, "marks").address(name), self.address, threads)
        return self

    @staticmethod
    def run_both(name, threads):
        one, other = Data(), Data()
        entry = jit.load(MODULE, "marks").address(name)
        openmp.run_both((entry, one.address), (entry, other.address), threads)
        return one, other

    @property
    def marks(self):
        return [mark for mark in self.numbers[:64] if mark]

    @property
    def sizes(self):
        return [size for size in self.numbers[64:128] if size]


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory):
    """A cache of its own, not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELMAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def threads():
    """Two threads for torch here, and what was before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["openmp", "own"])
def runtime(request, monkeypatch):
    """With torch's threads, and as where there is no OpenMP."""
    openmp._launcher.cache_clear()
    if request.param == "own":
        monkeypatch.setattr(openmp, "_openmp", lambda: None)
    elif openmp._openmp() is None:
        pytest.skip("this torch has no OpenMP")
    yield request.param
    openmp._launcher.cache_clear()


@pytest.mark.parametrize("name", ["mark", "meet"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_thread_comes_exactly_once(runtime, name, count):
    data = Data().run(name, count)
    assert data.marks == [1] * count
    assert data.sizes == [count] * count


@pytest.mark.parametrize("name", ["mark", "meet"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_two_functions_have_half_of_the_threads_each(runtime, name, count):
    one, other = Data.run_both(name, count)
    for data, share in ((one, max(1, count // 2)), (other, -(-count // 2))):
        assert data.marks == [1] * share
        assert data.sizes == [share] * share


def test_a_team_smaller_than_torchs_has_no_thread_too_many(runtime):
    torch.set_num_threads(4)
    data = Data().run("meet", 2).run("meet", 3).run("meet", 1)
    assert data.marks == [3, 2, 1]


def test_max_threads_follows_torch(monkeypatch):
    monkeypatch.setattr(limits, "cores", lambda: 2)
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(openmp.max_threads())
    assert found == [1, 2, 2]  # more than one a core would spin against each other


def test_torchs_own_library_is_the_one_that_is_called():
    if sys.platform != "linux" or openmp._openmp() is None:
        pytest.skip("the map of a process is a file on Linux")
    address = openmp._openmp()[1][0]
    ours = torch_library = ""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        if begin <= address < end:
            ours = line.split()[-1]
        if "omp" in line.split()[-1] and os.path.dirname(torch.__file__) in line:
            torch_library = line.split()[-1]
    assert "omp" in ours
    if torch_library and "LD_PRELOAD" not in os.environ:
        assert ours == torch_library


def test_many_python_threads_run_at_once(runtime):
    everything = [Data() for _ in range(4)]

    def work(data):
        for _ in range(50):
            data.run("meet", 2)

    workers = [threading.Thread(target=work, args=[data], daemon=True) for data in everything]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    for data in everything:
        assert data.marks[0] == 50  # thread 0 is always there, thread 1 where a core was left
        assert max(data.sizes) <= 2
    assert openmp._taken.threads == 0


def test_teams_of_several_python_threads_share_the_cores(monkeypatch):
    monkeypatch.setattr(limits, "cores", lambda: 4)
    taken = openmp._Taken()
    assert [taken.add(3), taken.add(3), taken.add(3)] == [3, 1, 1]
    for threads in (3, 1, 1):
        taken.remove(threads)
    assert taken.add(8) == 8  # alone it is as asked


@pytest.mark.skipif(sys.platform == "win32", reason="calls it as on POSIX")
def test_the_address_of_yield_can_be_called():
    assert ctypes.CFUNCTYPE(ctypes.c_int)(openmp.yield_address())() == 0


def test_inside_a_parallel_region_a_team_is_as_large_as_openmp_makes_it():
    launch, _, table = openmp._launcher()
    if table is None:
        pytest.skip("this torch has no OpenMP")
    inner = [Data(), Data()]
    entry = ctypes.cast(launch, ctypes.c_void_p).value
    given = (ctypes.c_void_p * 4)(entry, ctypes.addressof(table), *(data.address for data in inner))
    openmp.run(jit.load(MODULE, "marks").address("nest"), ctypes.addressof(given), 2)
    for data in inner:
        assert data.marks == [1] * len(data.marks)
        assert data.sizes == [len(data.marks)] * len(data.marks)
        assert 1 <= len(data.marks) <= 2


def finished(child):
    """The exit status of a process, which is killed after a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"


def works_alone():
    """Whether a function asked for two threads runs on one, and new code can be compiled."""
    data = Data().run("meet", 2)
    number = jit.load("define i64 @f() { ret i64 3 }", f"child {os.getpid()}").address("f")
    return openmp.max_threads() == 1 and data.sizes == [1] and number != 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_works_alone(runtime):
    torch.randn(300, 300) @ torch.randn(300, 300)  # torch's team has started
    Data().run("meet", 2)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if works_alone() else 1)
        finally:
            os._exit(2)
    assert finished(child) == 0
    assert Data().run("meet", 2).sizes == [2, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_a_compilation_in_another_thread():
    """The lock is free in the child, though the thread that held it is not there."""
    held, go_on = threading.Event(), threading.Event()

    def compiling():
        with once.making:
            held.set()
            go_on.wait(0.3)

    thread = threading.Thread(target=compiling)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if works_alone() else 1)
        finally:
            os._exit(2)
    thread.join()
    assert finished(child) == 0


class Works(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return works_alone()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_data_loader_workers_work_alone():
    Data().run("meet", 2)
    loader = DataLoader(Works(), num_workers=2, timeout=60, multiprocessing_context="fork")
    assert [bool(item) for item in loader] == [True] * 4


LIMITED = """
import torch
from tests.backends.cpu.test_openmp import Data
torch.set_num_threads(2)
data = Data().run("meet", 3)
print(data.marks, data.sizes)
for data in Data.run_both("meet", 4):
    assert data.marks == data.sizes == [1]
"""


@pytest.mark.parametrize(
    ("variable", "value", "printed"),
    [("OMP_THREAD_LIMIT", "1", "[1] [1]"), ("OMP_THREAD_LIMIT", "2", "[1, 1] [2, 2]")],
)
def test_fewer_threads_than_asked_for_do_not_hang(variable, value, printed):
    if openmp._openmp() is None:
        pytest.skip("this torch has no OpenMP")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        env={**os.environ, variable: value, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == printed, done.stderr
