"""What a random step is made of: every operation that the compiler knows, as a line of Python."""

from __future__ import annotations

from typing import NamedTuple


class Template(NamedTuple):
    """One line of a step.

    text: the line; {0}, {1}, ... are values before it, {m} its member, {e0}, ... numbers of its
        own. member: what ``__init__`` makes for it, of {n} numbers out, {s0} numbers in; what
        begins with "buffer" is a buffer.
    size: of the result: "same" as the arguments', which have one size or 1; "free"; or by name.
    smooth: whether neither it nor its gradient jumps, so that float32 is near to float64.
    """

    text: str
    size: str = "same"
    member: str = ""
    smooth: bool = True

    @property
    def arguments(self) -> int:
        return sum(f"{{{i}}}" in self.text for i in range(5))


def _of(texts: dict[str, str], size: str = "same", smooth: bool = True) -> dict[str, Template]:
    return {name: Template(text, size, "", smooth) for name, text in texts.items()}


MATRIX = "nn.Parameter(torch.empty({n}, {s0}))"
VECTOR = "nn.Parameter(torch.empty({s0}))"
PRODUCTS = {
    "linear": Template("self.{m}({0})", "free", "nn.Linear({s0}, {n})"),
    "no bias": Template("self.{m}({0})", "free", "nn.Linear({s0}, {n}, bias=False)"),
    "F.linear": Template("F.linear({0}, self.{m})", "free", MATRIX),
    "matmul": Template("{0} @ self.{m}", "free", "nn.Parameter(torch.empty({s0}, {n}))"),
    "made weight": Template("F.linear({0}, torch.tanh(self.{m}))", "free", MATRIX),
    "unit weight": Template("F.linear({0}, self.{m} / (self.{m}.norm() + 0.5))", "free", MATRIX),
    "square weight": Template(
        "F.linear({0}, self.{m} @ self.{m}.t())", "same", "nn.Parameter(torch.empty({s0}, 2))"
    ),
    "fixed": Template("F.linear({0}, self.{m})", "free", "buffer torch.empty({n}, {s0})"),
    "deep": Template(
        "self.{m}({0})",
        "free",
        "nn.Sequential(nn.Linear({s0}, 3), nn.Tanh(), nn.Linear(3, {n}))",
    ),
}
#: A product with a weight that an earlier line has too: {k}.
TIED = {"tied": Template("F.linear({0}, self.{k})", "free")}
#: A product of the output part of the state, which the layer may drop.
DROPPED = {
    "dropped": Template("F.linear(self.drop_state({0}), self.{m})", "free", MATRIX),
}
MEMBERS = {
    "bias": Template("{0} + self.{m}", "same", VECTOR),
    "gain": Template("{0} * self.{m}", "same", VECTOR),
    "one number": Template("{0} * self.{m}", "same", "nn.Parameter(torch.empty(()))"),
    "fixed gain": Template("{0} * self.{m}", "same", "buffer torch.empty({s0})"),
    "fixed number": Template("{0} + self.{m} * torch.tanh({0})", "same", "buffer torch.empty(())"),
    "double number": Template(
        "{0} + self.{m} * torch.tanh({0})", "same", "buffer torch.empty((), dtype=torch.float64)"
    ),
    "whole numbers": Template(
        "{0} * self.{m}", "same", "buffer torch.empty({s0}, dtype=torch.int64)"
    ),
    "masked": Template(
        "{0}.masked_fill(self.{m}, 0.5)", "same", "buffer torch.empty({s0}, dtype=torch.bool)"
    ),
    "by sign": Template(
        "torch.where(self.{m} > 0, {0}, torch.tanh({0}))", "same", "buffer torch.empty({s0})"
    ),
    "attribute": Template("{0} * self.scale_{m}", "same", "number scale_{m} 0.75"),
    "private": Template("{0} * self._scale_{m}", "same", "number _scale_{m} 0.75"),
    "settings": Template(
        "(torch.tanh if self.cfg_{m}.act == 'tanh' else torch.sigmoid)({0})",
        "same",
        "number cfg_{m} Settings('tanh')",
    ),
    "module": Template("self.{m}({0})", "same", "nn.Tanh()"),
    # Beside its kink: at 0, where rows without a step are, torch contradicts itself in 2nd order.
    "prelu": Template("self.{m}({0} + 0.01)", "same", "nn.PReLU()", smooth=False),
    "norm": Template("self.{m}({0})", "same", "nn.LayerNorm({s0}, eps=0.01)"),
}
UNARY = _of(
    {
        "neg": "-{0}",
        "exp": "torch.exp(torch.tanh({0}))",
        "exp2": "torch.exp2(torch.tanh({0}))",
        "log": "torch.log({0} * {0} + 0.5)",
        "log2": "torch.log2({0} * {0} + 0.5)",
        "log10": "torch.log10({0} * {0} + 0.5)",
        "log1p": "torch.log1p({0} * {0})",
        "expm1": "torch.expm1(torch.tanh({0}))",
        "sqrt": "torch.sqrt({0} * {0} + 0.25)",
        "rsqrt": "torch.rsqrt({0} * {0} + 0.25)",
        "reciprocal": "torch.reciprocal({0} * {0} + 0.5)",
        "sigmoid": "torch.sigmoid({0})",
        "tanh": "torch.tanh({0})",
        "erf": "torch.erf({0})",
        "sin": "torch.sin({0})",
        "cos": "torch.cos({0})",
        "tan": "torch.tan(0.5 * torch.tanh({0}))",
        "square": "torch.square({0})",
        "gelu": "F.gelu({0})",
        "gelu tanh": "F.gelu({0}, approximate='tanh')",
        "silu": "F.silu({0})",
        "softplus": "F.softplus({0})",
        "softplus beta": "F.softplus({0}, 2.0, 3.0)",
        "logsigmoid": "F.logsigmoid({0})",
        "mish": "F.mish({0})",
        "cube": "torch.tanh({0}) ** 3",
        "power": "({0} * {0} + 0.5) ** 1.7",
        "to the": "1.3 ** torch.tanh({0})",
        "half": "0.5 * {0} - 1",
        "rest": "1 - {0}",
        "over": "2 / ({0} * {0} + 1)",
        "stopped": "{0} + torch.tanh({0}).detach()",
        "far clamp": "{0}.clamp(max=3.3e38)",
        "softmax": "torch.softmax({0}, -1)",
        "log_softmax": "F.log_softmax({0}, -1)",
        "layer_norm": "F.layer_norm({0}, {0}.shape[-1:], eps=0.01)",
        "rms_norm": "F.rms_norm({0}, {0}.shape[-1:], eps=0.01)",
        "centred": "{0} - {0}.mean(-1, keepdim=True)",
    }
) | _of(
    {
        "abs": "torch.abs({0})",
        "sign": "torch.sign({0}) * {0}",
        "relu": "torch.relu({0})",
        "relu6": "F.relu6({0})",
        "elu": "F.elu({0} + 0.01)",
        "celu": "F.celu({0} + 0.01, 0.5)",
        "leaky_relu": "F.leaky_relu({0})",
        "threshold": "F.threshold({0}, 0.1, -0.2)",
        "hardtanh": "F.hardtanh({0})",
        "hardsigmoid": "F.hardtanh({0} + 3, 0.0, 6.0) / 6",
        "hardswish": "F.hardswish({0})",
        "clamp": "{0}.clamp(-0.4, 0.7)",
    },
    smooth=False,
)
#: Whose values are at most about 1 whatever they are given.
BOUNDED = ("tanh", "sigmoid", "erf", "sin", "cos", "softmax", "reciprocal", "over")
BINARY = _of(
    {
        "add": "{0} + {1}",
        "sub": "{0} - {1}",
        "scaled": "torch.add({0}, {1}, alpha=0.3)",
        "mul": "{0} * {1}",
        "div": "{0} / ({1} * {1} + 0.5)",
        "pow": "({0} * {0} + 0.5) ** torch.tanh({1})",
        "lerp": "torch.lerp({0}, {1}, 0.3)",
        "lerp by": "torch.lerp({0}, torch.tanh({0}), torch.sigmoid({1}))",
        "addcmul": "torch.addcmul({0}, {1}, {0}, value=0.4)",
        "logaddexp": "torch.logaddexp({0}, {1})",
        "mixed": "torch.sigmoid({0}) * {1} + (1 - torch.sigmoid({0})) * torch.tanh({0})",
    }
) | _of({"maximum": "torch.maximum({0}, {1})", "minimum": "torch.minimum({0}, {1})"}, smooth=False)
CHOICES = _of(
    {
        **{
            name: f"torch.where(torch.{name}({{0}}, {{1}}), {{2}}, {{3}})"
            for name in ("lt", "le", "gt", "ge", "eq", "ne")
        },
        "and": "torch.where(({0} > 0) & ({1} <= {0}), {2}, {3})",
        "or": "torch.where(({0} > 0) | ({1} <= {0}), {2}, {3})",
        "xor": "torch.where(torch.logical_xor({0} > 0, {1} <= {0}), {2}, {3})",
        "not": "torch.where(~({0} > 0), {2}, {3} + {1})",
        "as number": "({0} > {1}).to({2}.dtype) * {2} + {3}",
        "fill": "({2} + {3}).masked_fill({0} > {1}, 0.25)",
    },
    smooth=False,
)
TO_ONE = _of(
    {
        "sum": "{0}.sum(-1, keepdim=True)",
        "mean": "{0}.mean(-1, keepdim=True)",
        "var": "{0}.var(-1, keepdim=True, correction=0)",
        "logsumexp": "torch.logsumexp({0}, -1, keepdim=True)",
        "norm 2": "({0} * {0} + 0.1).norm(dim=-1, keepdim=True)",
    },
    "one",
) | _of(
    {"amax": "{0}.amax(-1, keepdim=True)", "amin": "{0}.amin(-1, keepdim=True)"},
    "one",
    smooth=False,
)
PARTS = {
    "slice": Template("{0}[..., {e0}:{e1}]", "slice"),
    "first half": Template("{0}.chunk(2, -1)[0]", "first half"),
    "second half": Template("{0}.chunk(2, -1)[1]", "second half"),
    "select": Template("{0}[..., {e0}].unsqueeze(-1)", "one"),
    "cat": Template("torch.cat([{0}, {1}], -1)", "cat"),
    "glu": Template("F.glu(torch.cat([{0}, {0}], -1), -1)", "same"),
}
TEMPLATES: dict[str, Template] = {
    **PRODUCTS, **TIED, **DROPPED, **MEMBERS, **UNARY, **BINARY, **CHOICES, **TO_ONE, **PARTS,
}  # fmt: skip
