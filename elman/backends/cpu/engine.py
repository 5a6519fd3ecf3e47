"""Kernels for the CPU: plans compiled by LLVM, run on torch's own threads."""

from __future__ import annotations

import torch
from torch import Tensor

from elman.backends.base import Again, BackwardBuffers, ForwardBuffers, PlannedLoop
from elman.backends.cpu.jit.target import host
from elman.backends.cpu.program import Program, run
from elman.backends.cpu.stepper import Stepper
from elman.backends.cpu.threads import openmp
from elman.backends.cpu.threads.partition import Workload, at_once, partition
from elman.cells.cell import State
from elman.compiler.plan import Plan

ELEMENTS = {torch.float32: "float", torch.float64: "double"}


class LLVM:
    """The backend "llvm"."""

    name = "llvm"

    def refuses(self, plan: Plan, like: Tensor) -> str | None:
        if not like.is_cpu:
            return f"there are no kernels for {like.device.type} yet"
        if like.dtype not in ELEMENTS:
            return f"there are no kernels for {like.dtype} yet, only for float32 and float64"
        return None

    def describe(self, loop: PlannedLoop, dtype: torch.dtype, beside: bool = False) -> str:
        threads = openmp.max_threads()
        shared = partition(
            self.workload(loop, dtype), host(), max(1, threads // 2) if beside else threads
        )
        at = f"at batch size {loop.layout.batch}"
        if shared.threads == 1:
            return f"one {at}"
        if shared.units:
            return f"{shared.threads} {at}, each with some of the units, meeting after each step"
        return f"{shared.threads} {at}, each with rows of its own"

    def source(self, plan: Plan, dtype: torch.dtype, loop: str) -> str:
        source: str = getattr(self.program(plan, dtype), loop).source
        return source

    def at_once(self, one: PlannedLoop, other: PlannedLoop, dtype: torch.dtype) -> bool:
        return at_once(self.workload(one, dtype), self.workload(other, dtype), host())

    def forward(self, *runs: tuple[Plan, ForwardBuffers]) -> None:
        run(
            (
                self.program(plan, buffers.initial_state[0].dtype).forward(buffers.training),
                plan,
                buffers,
                None,
            )
            for plan, buffers in runs
        )

    def backward(self, *runs: tuple[Plan, ForwardBuffers, BackwardBuffers]) -> None:
        run(
            (self.program(plan, buffers.initial_state[0].dtype).backward, plan, buffers, back)
            for plan, buffers, back in runs
        )

    def workload(self, loop: PlannedLoop, dtype: torch.dtype) -> Workload:
        """How much a loop has to do."""
        kernel = self.program(loop.plan, dtype).forward(loop.training).kernel
        return Workload(loop.layout, kernel.layout.weight_bytes)

    def stepper(self, plan: Plan, weights: list[Tensor], state: State, again: Again) -> Stepper:
        """What runs a streamed plan one step at a time."""
        loop = self.program(plan, state[0].dtype).inference
        return Stepper(plan, loop, weights, state, again)

    def program(self, plan: Plan, dtype: torch.dtype) -> Program:
        """The kernels of a plan, each compiled when it is first run."""
        key = dtype, host()
        program = plan.made_of.get(key)
        if program is None:
            program = plan.made_of.setdefault(key, Program(plan, ELEMENTS[dtype], host()))
        return program
