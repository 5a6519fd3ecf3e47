"""Trainings in processes of their own, as torchrun starts them."""

import io
import multiprocessing
import os
import socket
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from rich.console import Console

from elman.errors import ElmanError
from elman.tasks import TASKS, task_of
from elman.train import training
from elman.train.run import open_run

# Processes are forked from one that has imported everything, and done nothing.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [__name__, "elman.train.fit", "torch._dynamo", "matplotlib.backends.backend_agg", "sacrebleu"]
)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def torchrun_environment(rank: int, processes: int, nodes: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    here = processes // nodes
    return {
        "TORCHELASTIC_RUN_ID": "test",
        "GLOO_SOCKET_IFNAME": "lo",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % here),
        "GROUP_RANK": str(rank // here),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(here),
    }


def _train(environment, answers, rank, task, files, out, force, inside, options) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    said = io.StringIO()
    try:
        if inside is not None:
            inside()
        with redirect_stdout(said), redirect_stderr(said):
            if task is None:
                training.resume(task_of(run := open_run(out)), run, Console(file=said))
            else:
                kind = TASKS[task]
                built = kind.options_type(threads=1, accelerator="cpu", log_every=1, **options)
                training.train(kind, files, built, out, force, Console(file=said))
        answers.put((rank, "well"))
    except ElmanError as error:
        answers.put((rank, str(error)))
    except BaseException:
        answers.put((rank, traceback.format_exc() + said.getvalue()))
    answers.close()
    answers.join_thread()
    os._exit(0)


def trained(
    task,
    files,
    out: Path,
    processes=1,
    nodes=1,
    force=False,
    before=None,
    answering=None,
    inside=None,
    **options,
):
    """What each process said, or those of ``answering``: a training in processes of their own.

    task: None resumes. before: is called with the processes when they have begun. inside: is
    called in each of them before it trains.
    """
    answering = range(processes) if answering is None else answering
    if processes > 1:
        options |= {"devices": processes // nodes, "nodes": nodes}
    answers, port = SERVER.Queue(), free_port()
    given = ([str(file) for file in files], out, force, inside, options)
    started = []
    for rank in range(processes):
        several = processes > 1
        environment = torchrun_environment(rank, processes, nodes, port) if several else {}
        process = SERVER.Process(target=_train, args=(environment, answers, rank, task, *given))
        process.start()
        started.append(process)
    try:
        if before is not None:
            before(started)
        found = dict(answers.get(timeout=100) for _ in answering)
    finally:
        for process in started:
            process.join(5)
            process.kill()
    return [found[rank] for rank in answering]
