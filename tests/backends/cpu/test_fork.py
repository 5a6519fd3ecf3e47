"""A process may be forked while its threads compile."""

import os
import subprocess
import sys

import pytest

FORKS = """
import os, threading, time
import torch, elman

torch.set_num_threads(1)

def first_call(number):
    with torch.no_grad():
        elman.GRU(7, 9 + number)(torch.randn(3, 2, 7))

threads = [threading.Thread(target=first_call, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for _ in range(4):
    time.sleep(0.1)
    child = os.fork()
    if not child:
        first_call(20)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
for thread in threads:
    thread.join()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_is_forked_while_threads_compile_compiles_as_well(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS],
        env=os.environ | {"ELMAN_CACHE": str(tmp_path)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "done\n", done.stderr


COME_AND_GO = """
import os, signal, threading, time
import torch, elman

torch.set_num_threads(1)

def work():
    while True:
        layer = elman.Recurrent(elman.cells.GRU(3, int(torch.randint(2, 9, ()))))
        layer.me = [layer]  # a cycle: the collector frees it, whatever is going on
        layer(torch.randn(4, 2, 3))[0].sum().backward()

x = torch.randn(2, 2, 3)  # a child draws nothing: torch's generator has a lock of its own
threading.Thread(target=work, daemon=True).start()
end = time.time() + 8
while time.time() < end:
    layer = elman.GRU(3, 4 + int(time.time() * 1000) % 7)
    signal.alarm(60)
    child = os.fork()
    if not child:
        signal.alarm(30)
        with torch.no_grad():
            layer(x)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_layers_may_go_while_a_process_forks(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COME_AND_GO],
        env=os.environ | {"ELMAN_CACHE": str(tmp_path)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "done\n", (done.returncode, done.stderr)
