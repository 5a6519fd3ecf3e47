"""Draws gradient-flow.png: how far back a gradient reaches in five networks.

python docs/images/gradient_flow.py
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from elman.cells import GRU, LSTM, Elman
from elman.layers import Recurrent

T, H = 50, 64


def flow(cell, x):
    """|d loss / d h_t| for t = 1 ... T, with a loss on the last output alone."""
    layer = Recurrent(cell)
    states, state = [], None
    for x_t in x:
        _, state = layer.step(x_t, state)
        h = state if torch.is_tensor(state) else state[0]
        h.retain_grad()
        states.append(h)
    states[-1].sum().backward()
    return [s.grad.norm().item() for s in states]


def linear(weight):
    """h' = w h."""
    cell = Elman(1, 1, activation="identity", bias=False)
    with torch.no_grad():
        cell.weight_hh.fill_(weight)
    return cell


def main():
    """Write the picture beside this file."""
    torch.manual_seed(0)
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    ones = torch.ones(T, 1, 1)  # the input of the linear unit changes no gradient
    for weight in (1.1, 1.0, 0.9):
        left.plot(range(1, T + 1), flow(linear(weight), ones), label=f"h' = {weight} h + w x")
    x = torch.randn(T, 1, H)
    for name, cell in (
        ("Elman, init='torch'", Elman(H, H, init="torch")),
        ("Elman, orthogonal U", Elman(H, H)),
        ("LSTM, forget bias 1", LSTM(H, H)),
        ("LSTM, chrono, t_max = 50", LSTM(H, H, init="chrono", t_max=50)),
        ("GRU", GRU(H, H)),
    ):
        right.plot(range(1, T + 1), flow(cell, x), label=name)
    left.set_title("one linear unit: the gradient explodes or vanishes")
    right.set_title(f"{H} units on noise, at initialisation")
    for axes in (left, right):
        axes.set(yscale="log", xlabel="step t", ylabel="|dL / dh_t|,  L on step 50 alone")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(Path(__file__).with_name("gradient-flow.png"), dpi=90)


if __name__ == "__main__":
    main()
