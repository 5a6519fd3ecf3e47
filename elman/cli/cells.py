"""`elman cells`: the cells and their equations."""

import inspect
from typing import Any

import typer
from rich.console import Console


def cells(
    name: str = typer.Argument(None, help="One cell, with its whole description."),
    input_size: int = typer.Option(128, help="Inputs, for the parameter count."),
    hidden_size: int = typer.Option(128, help="Units, for the parameter count."),
) -> None:
    """List the built-in cells with their equations and parameter counts.

    [bold]elman cells gru --input-size 64 --hidden-size 256[/]
    """
    from elman.cells import CELLS, cell_named

    console = Console(soft_wrap=True, emoji=False)
    chosen = {name: cell_named(name)} if name else CELLS
    cell: Any
    for key, cell in chosen.items():
        count = sum(p.numel() for p in cell(input_size, hidden_size, device="meta").parameters())
        title = (
            f"[bold]{key}[/]  [dim]{count:,} parameters at I = {input_size}, H = {hidden_size}[/]"
        )
        console.print(title, highlight=False)
        text = inspect.getdoc(cell) or ""
        console.print(text if name else equation(text), markup=False, highlight=False)
        console.print()


def equation(docstring: str) -> str:
    """The indented block of a cell's docstring."""
    block: list[str] = []
    for line in docstring.splitlines():
        if line.startswith("    "):
            block.append(line)
        elif block and line.strip():
            break
    return "\n".join(block)
