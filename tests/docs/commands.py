"""elman's command in processes that have loaded all of it already.

To load torch and Lightning takes longer than most commands of the documentation. A server loads
them once, before it has any thread, and each command is a fork of it.
"""

import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ELMAN = Path(sys.executable).with_name("elman")
#: One thread: the models are tiny. Wide: a line of a page is not wrapped.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
LOADED = ["elman.cli.main", "elman.tasks", "lightning.pytorch", "matplotlib.pyplot", "torchmetrics"]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(LOADED)


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run(arguments: list[str]) -> Done:
    """Run ``elman`` with these arguments in the current folder."""
    if "--devices" in arguments:  # starts itself again, so it must be a program
        command, environment = [ELMAN, *arguments], os.environ | ENVIRONMENT
        done = subprocess.run(
            command, check=False, env=environment, capture_output=True, encoding="utf-8"
        )
        return Done(done.returncode, done.stdout, done.stderr)
    with TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        for stream in streams:
            stream.touch()
        before = {name: os.environ.get(name) for name in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)  # those of the server, if it is not there yet
        try:
            process = SERVER.Process(target=_command, args=(arguments, Path.cwd(), *streams))
            process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        process.join()
        return Done(process.exitcode, *(stream.read_text("utf-8") for stream in streams))


def _command(arguments: list[str], folder: Path, stdout: Path, stderr: Path) -> None:
    os.chdir(folder)
    for number, path in enumerate((stdout, stderr), start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    sys.argv = [str(ELMAN), *arguments]
    from elman.cli.main import main

    main()
