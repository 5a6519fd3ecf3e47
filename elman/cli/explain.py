"""`elman explain`: what becomes of the equation of a cell."""

import inspect
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from elman.errors import OptionError, unknown

if TYPE_CHECKING:
    from elman.cells import Cell
    from elman.layers import CellPlan

DTYPES = ("float32", "float64")


def explain(
    cell: str = typer.Argument(
        help="A cell of `elman cells`, or your own as path.py:ClassName.", show_default=False
    ),
    hidden_size: int = typer.Option(128, help="Units."),
    input_size: int = typer.Option(64, help="Inputs."),
    batch_size: int = typer.Option(16, help="Sequences, which decide how threads share the work."),
    cell_option: list[str] = typer.Option(
        None, help="An argument of the cell, as reset_after=false; may be repeated."
    ),
    dtype: str = typer.Option("float32", help=f"{' or '.join(DTYPES)}."),
    backend: str = typer.Option("auto", help="auto, llvm, eager or loop."),
    backward: bool = typer.Option(True, help="With backpropagation through time, or without."),
    source: bool = typer.Option(False, help="Also print the generated LLVM code of each loop."),
) -> None:
    """Show what a cell is compiled to: the step, its gradient, and what runs where.

    [bold]elman explain lstm[/]                 backpropagation, line by line
    [bold]elman explain lstm --source[/]        the code of the loops
    [bold]elman explain gru --cell-option reset_after=false[/]
    [bold]elman explain mine.py:MyCell --no-backward[/]

    x' is the new value of a part of the state, d_x the gradient of the loss with respect to x,
    @ a matrix product, (x) an outer product. A line ends with the shape of its value and where
    in the cell it comes from.
    """
    console = Console(soft_wrap=True, emoji=False)
    made = _made(cell, input_size, hidden_size, cell_option or [], dtype)
    if batch_size < 1:
        raise OptionError(f"--batch-size must be above 0, got {batch_size}")
    plan = _plan(made, backend, batch_size, backward)
    pages = [_equation(made)]
    if plan.page is not None:
        pages.append(plan.page.text(backward))
    pages.append(_runs(plan))
    if source:
        pages += _sources(plan, backward)
    console.print("\n\n".join(pages), markup=False, highlight=False)


def _made(name: str, inputs: int, hidden: int, options: list[str], dtype: str) -> "Cell":
    import torch

    from elman.train.custom_cell import cell_class, cell_options

    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    kind: Any = cell_class(name)
    given = cell_options(options)
    try:
        made = kind(inputs, hidden, **given)
    except TypeError as error:
        words = [str(inputs), str(hidden), *(f"{key}={value!r}" for key, value in given.items())]
        raise OptionError(
            f"{name} cannot be built as {kind.__name__}({', '.join(words)}): {error}"
        ) from error
    cell: Cell = made.to(getattr(torch, dtype))
    return cell


def _plan(cell: "Cell", backend: str, batch_size: int, backward: bool) -> "CellPlan":
    from elman.layers import Recurrent

    layer = Recurrent(cell, backend=backend)
    return layer.plan(batch_size=batch_size, training=backward).cells[0]


def _equation(cell: "Cell") -> str:
    from elman.cli.cells import equation

    text = inspect.getdoc(type(cell)) or ""
    block = equation(text)
    said = f"{text.partition(chr(10))[0]}\n\n{block}" if block else text
    return f"{type(cell).__name__}: {said or 'its class has no docstring'}"


def _runs(plan: "CellPlan") -> str:
    from elman.compiler.printing.report import section

    lines = [f"on {plan.backend}, {str(plan.dtype).removeprefix('torch.')}, {plan.device}"]
    if plan.reason:
        lines.append(f"not on the fastest backend: {plan.reason}")
    if plan.page is None:
        lines.append("one call of step a time step, differentiated by torch")
    else:
        lines.append(f"threads: {plan.threads}")
    if plan.bytes_per_step:
        lines.append(
            f"{plan.bytes_per_step} bytes per step and sequence kept for the backward loop"
        )
    return section("runs", lines)


def _sources(plan: "CellPlan", backward: bool) -> list[str]:
    engine, compiled = plan.choice.engine, plan.choice.plan
    loops = ("training", "backward") if backward else ("inference",)
    sources = {}
    if engine is not None and compiled is not None:
        sources = {name: engine.source(compiled, plan.dtype, name) for name in loops}
    if not any(sources.values()):
        raise OptionError(f"--source: there is no generated code: the cell runs on {plan.backend}")
    return [f"; the loop '{name}'\n{source}" for name, source in sources.items()]
