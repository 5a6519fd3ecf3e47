"""A disk that is really full: the limit of a process on the size of a file."""

import subprocess
import sys

SCRIPT = """
import resource, signal, sys
from pathlib import Path
import torch
from elman.errors import RunError
from elman.train.weights import load_tensors, save_tensors
path = Path(sys.argv[1])
save_tensors(path, {"w": torch.zeros(10)})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_tensors(path, {"w": torch.ones(100_000)})
except RunError as error:
    assert "no room left" in str(error), error
else:
    raise SystemExit("nothing was raised")
assert load_tensors(path)["w"].tolist() == [0] * 10
"""


def test_weights_that_find_no_room_leave_the_old_ones(tmp_path):
    path = tmp_path / "model.safetensors"
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o044
