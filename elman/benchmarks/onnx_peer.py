"""A cell as one node of ONNX, run by ONNX Runtime: inference alone.

Importing this file raises ImportError where onnx or onnxruntime is not installed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elman.benchmarks.problem import Problem, Results
from elman.benchmarks.timing import Contestant
from elman.cells import Cell

onnx: Any = import_module("onnx")
onnxruntime: Any = import_module("onnxruntime")


@dataclass(frozen=True)
class Node:
    """An operator of ONNX: which of our gates stands at each place of its order, its options."""

    kind: str
    gates: Sequence[int]
    options: dict[str, int] = field(default_factory=dict)


#: ONNX has the gates i o f c where we have i f g o, and z r h where we have r z n.
NODES = {
    "lstm": Node("LSTM", (0, 3, 1, 2)),
    "peephole-lstm": Node("LSTM", (0, 3, 1, 2)),
    "gru": Node("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "reset-before-gru": Node("GRU", (1, 0, 2), {"linear_before_reset": 0}),
    "elman": Node("RNN", (0,)),
}
#: The peepholes are i o f where ours are i f o.
PEEPHOLES = (0, 2, 1)


def contestants(problem: Problem, threads: Sequence[int]) -> list[Contestant] | None:
    """One for each number of threads; None for what ONNX has no operator for."""
    if problem.training or problem.subject.name not in NODES:
        return None
    node = NODES[problem.subject.name]
    x = problem.x.numpy()
    return [_contestant(session(problem.cell, node, count), x, count) for count in threads]


def _contestant(runner: Any, x: NDArray[Any], threads: int) -> Contestant:
    def results(found: list[NDArray[Any]]) -> Results:
        return {"outputs": torch.from_numpy(found[0][:, 0])}

    setting = f"{threads} thread{'s' * (threads > 1)}"
    return Contestant("ONNX Runtime", setting, lambda: runner.run(["Y"], {"x": x}), results)


def session(cell: Cell, node: Node, threads: int, streaming: bool = False) -> Any:
    """An inference session: "x" [T, B, I] -> "Y" [T, 1, B, H].

    streaming: the state goes in as "h0" (and "c0") and out as "h" (and "c"), each [1, B, H].
    """
    options = onnxruntime.SessionOptions()
    # Its threads spin between runs, which takes the cores away from whoever has the next turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        _model(cell, node, streaming), options, providers=["CPUExecutionProvider"]
    )


def _model(cell: Cell, node: Node, streaming: bool) -> bytes:
    H, helper = cell.output_size, onnx.helper
    constants = _constants(cell, node)
    parts = ["h", "c"] if node.kind == "LSTM" else ["h"]
    inputs = ["x", *(name if name in constants else "" for name in ("W", "R", "B"))]
    inputs += ["", *(f"{part}0" if streaming else "" for part in parts)]
    if "P" in constants:
        inputs += [""] * (7 - len(inputs)) + ["P"]
    outputs = ["Y", *(parts if streaming else [])]
    operator = helper.make_node(node.kind, inputs, outputs, hidden_size=H, **node.options)
    graph = helper.make_graph(
        [operator],
        "cell",
        [_value("x", ["T", "B", cell.input_size])]
        + [_value(f"{part}0", [1, "B", H]) for part in parts if streaming],
        [_value("Y", ["T", 1, "B", H])]
        + [_value(part, [1, "B", H]) for part in parts if streaming],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def _value(name: str, shape: list[Any]) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _constants(cell: Cell, node: Node) -> dict[str, NDArray[Any]]:
    values = {name: p.detach().numpy() for name, p in cell.named_parameters()}
    H = cell.output_size

    def ordered(value: NDArray[Any], order: Sequence[int]) -> NDArray[Any]:
        blocks = value.reshape(-1, H, *value.shape[1:])
        return np.concatenate([blocks[place] for place in order])

    biases = [
        ordered(values.get(name, np.zeros(len(node.gates) * H, np.float32)), node.gates)
        for name in ("bias_ih", "bias_hh")
    ]
    constants = {
        "W": ordered(values["weight_ih"], node.gates)[None],
        "R": ordered(values["weight_hh"], node.gates)[None],
        "B": np.concatenate(biases)[None],
    }
    if "weight_peephole" in values:
        constants["P"] = ordered(values["weight_peephole"], PEEPHOLES)[None]
    return constants
