"""The command under torchrun: two machines, which are this one twice."""

import csv
import os
import socket
import subprocess
import sys

import pytest

TRAIN = "-m elman.cli train classify --nodes 2 --accelerator cpu --threads 1 --hidden 4 --steps 2"


def free_port() -> int:
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            return server.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no port of this machine can be bound: {error}")


def test_two_machines_train_together(tmp_path):
    meeting = f"--rdzv-backend c10d --rdzv-id test --rdzv-endpoint 127.0.0.1:{free_port()}"
    agent = f"-m torch.distributed.run --nnodes 2 --nproc-per-node 1 {meeting} {TRAIN} --out run"
    agents = [
        subprocess.Popen(
            [sys.executable, *agent.split()],
            cwd=tmp_path,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in agents]
    assert [process.returncode for process in agents] == [0, 0], said
    assert sum("best" in text for text in said) == 1
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        assert {row["step"] for row in csv.DictReader(file)} == {"2"}
