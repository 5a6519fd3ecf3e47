"""Numbers below the least normal one, which processors compute with up to a hundred times slower.

A state or a gradient that vanishes goes through them, and may stay there: the least of them times
0.9 is rounded to itself. So kernels take them for 0. Not so where the step can tell such a number
from 0, as by a comparison, a logarithm or a division: there it is no longer a matter of 1e-38, and
the forward loop computes as the processor would.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from elman.backends.cpu.codegen.code import Code
from elman.backends.cpu.jit.target import Target
from elman.compiler.ir.nodes import COMPARE, Node, walk
from elman.compiler.plan import Plan
from elman.schedule.slots import Places, Targets

#: Bits of the control word: results that small are 0; operands that small are read as 0.
RESULTS, OPERANDS = 0x8000, 0x0040
#: The bit of ARM's that is both.
_ARM = 1 << 24

#: Which arguments of an operation it tells from 0, in its value or in its derivative.
_TELLING = {
    **dict.fromkeys(("sqrt", "rsqrt", "reciprocal", "log", "abs", "sign", "relu", "pow"), (0,)),
    **dict.fromkeys((*COMPARE, "maximum", "minimum"), (0, 1)),
    "div": (1,),
}


def mode(plan: Plan, backward: tuple[Targets, Places] | None = None) -> int:
    """What a loop of this plan takes for 0: RESULTS, OPERANDS, both or nothing.

    backward: what the backward loop stores and where it finds what it reads; None: a forward loop.
    Gradients enter the backward loop linearly and are never told from 0. So where the step can
    tell, they vanish there all the same, if what is told from 0 is read and not computed again.
    """
    there = {*plan.entering, *plan.prepared, *plan.states}
    if not _any_tells(plan.step.outputs, there, known=()):
        return RESULTS | OPERANDS
    if backward is None:
        return 0
    targets, places = backward
    return 0 if _any_tells([node for node, _ in targets], places, known=places) else RESULTS


def _any_tells(nodes: Iterable[Node], until: Collection[Node], known: Collection[Node]) -> bool:
    """Whether what is computed for these tells a number from 0, beside those that are known."""
    for node in walk(nodes, until=until):
        if node in until:
            continue
        told = [node.args[i] for i in _TELLING.get(node.op, ())]
        made = [arg for arg in told if arg.op != "const" and arg not in known]
        if made and not any(_never_tiny(arg) for arg in told):
            return True
    return False


def _never_tiny(node: Node) -> bool:
    """Whether it is a number of ordinary size, or differs from a value by one: such a difference
    is 0 or no less than the last bit of that number."""
    if node.op in ("add", "sub"):
        return any(arg.op == "const" and _never_tiny(arg) for arg in node.args)
    return node.op == "const" and abs(node.attrs["value"]) > 2.0**-90


class Control:
    """Sets the control word of the thread that runs a function, and puts it back at its end."""

    def __init__(self, code: Code, target: Target, mode: int) -> None:
        self.code, self.mode = code, mode
        self.x86 = "sse" in target.flags
        self.arm = target.triple.startswith("aarch64") and mode & OPERANDS
        self.before = ""

    def begin(self) -> None:
        """Write what stands at the beginning of the function."""
        code = self.code
        if self.x86:
            self.before, here = code.op("alloca i32, align 4"), code.op("alloca i32, align 4")
            code.call("void", "llvm.x86.sse.stmxcsr", ("ptr", self.before))
            other = code.op(f"and i32 {code.load('i32', self.before)}, {~(RESULTS | OPERANDS)}")
            code.store("i32", code.op(f"or i32 {other}, {self.mode}"), here)
            code.call("void", "llvm.x86.sse.ldmxcsr", ("ptr", here))
        elif self.arm:
            self.before = code.call("i64", "llvm.aarch64.get.fpcr")
            here = code.op(f"or i64 {self.before}, {_ARM}")
            code.call("void", "llvm.aarch64.set.fpcr", ("i64", here))

    def end(self) -> None:
        """Write what stands at its end."""
        if self.x86:
            self.code.call("void", "llvm.x86.sse.ldmxcsr", ("ptr", self.before))
        elif self.arm:
            self.code.call("void", "llvm.aarch64.set.fpcr", ("i64", self.before))
