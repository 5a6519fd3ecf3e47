"""Generated elementwise functions against references of higher precision, and against torch."""

import ctypes
import re
from functools import cache

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch

from elman.backends.cpu.codegen.code import Code, Vector
from elman.backends.cpu.codegen.functions import EMIT, emit
from elman.backends.cpu.jit import library as jit
from elman.compiler.ir.nodes import BINARY, COMPARE, ELEMENTWISE, UNARY

# The greatest error in ulp, float32 and float64, over the whole range of the type.
ULP = {
    "exp": (1.2, 1.1),
    "expm1": (1.8, 2.0),
    "log": (1.0, 1.0),
    "log1p": (1.0, 1.0),
    "sigmoid": (2.6, 2.5),
    "tanh": (2.5, 2.5),
    "erf": (1.3, 2.0),
    "sin": (0.51, 2.7),
    "cos": (0.51, 2.7),
    "pow": (0.51, 1.5),
    "sqrt": (0.5, 0.5),
    "rsqrt": (1.5, 1.5),
    "reciprocal": (0.5, 0.5),
}
EXACT = ("neg", "abs", "sign", "relu")
LANES = (16, 8, 4, 2)
DTYPES = (np.float32, np.float64)

HOST = frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)
# Name: (features that the functions are told of, LLVM's own; None: the host's).
PROCESSORS = {"host": (HOST, None)}
if "avx512f" in HOST:
    # Reciprocals are estimated without "sse4a" and divided with it.
    PROCESSORS["other quotients"] = HOST ^ {"sse4a"}, None
if "sse2" in HOST:
    PROCESSORS["plain"] = frozenset({"sse2"}), "+sse2"

CASES = [
    (processor, dtype, lanes) for processor in PROCESSORS for dtype in DTYPES for lanes in LANES
]
cases = pytest.mark.parametrize(
    ("processor", "dtype", "lanes"), CASES, ids=lambda v: getattr(v, "__name__", str(v))
)


# ------------------------------------------------------------------ running generated code


class Functions:
    """Every op for one type, each as a map over arrays whose length is a multiple of the lanes."""

    def __init__(self, processor, dtype, lanes):
        features, flags = PROCESSORS[processor]
        self.dtype = dtype
        self.text = text_of(Vector("float" if dtype == np.float32 else "double", lanes), features)
        machine = machine_for(flags)
        module = optimised(self.text, machine)
        self.assembly = machine.emit_assembly(module)
        self.engine = llvm.create_mcjit_compiler(module, machine)
        self.engine.finalize_object()

    def __call__(self, op, *arrays):
        logical = op in ("and", "or", "not")
        arrays = [np.ascontiguousarray(a) for a in arrays]
        assert all(a.dtype in (bool, self.dtype) and len(a) % 16 == 0 for a in arrays)
        out = np.empty(len(arrays[0]), np.int8 if logical or op in COMPARE else self.dtype)
        types = [ctypes.c_void_p] * (len(arrays) + 1)
        run = ctypes.CFUNCTYPE(None, *types, ctypes.c_int64)(
            self.engine.get_function_address(f"map_{op}")
        )
        run(*(a.ctypes.data for a in arrays), out.ctypes.data, len(out))
        return out


def text_of(ty, features):
    code = Code()
    for op in sorted(EMIT):
        write_map(code, ty, op, features)
    return code.module(['"prefer-vector-width"="512"'])


def write_map(code, ty, op, features):
    count = 3 if op == "where" else 1 if op in UNARY else 2
    logical = [op in ("and", "or", "not") or (op == "where" and k == 0) for k in range(count)]
    names = [f"%a{k}" for k in range(count)]
    pointers = ", ".join(f"ptr {name}" for name in names)
    with (
        code.function(f"void @map_{op}({pointers}, ptr %out, i64 %n)"),
        code.loop(0, "%n", ty.lanes) as loop,
    ):
        reads = zip(names, logical, strict=True)
        args = [load(code, ty, name, loop.index, truth) for name, truth in reads]
        value = emit(code, ty, op, *args, features=features)
        store(code, ty, value, loop.index, op in COMPARE or (logical[0] and op != "where"))


def load(code, ty, name, index, truth):
    if not truth:
        return code.load(ty, code.gep(name, index, ty.element), 1)
    small = f"<{ty.lanes} x i8>"
    value = code.load(small, code.gep(name, index, "i8"), 1)
    return code.op(f"icmp ne {small} {value}, zeroinitializer")


def store(code, ty, value, index, truth):
    if not truth:
        code.store(ty, value, code.gep("%out", index, ty.element), 1)
        return
    small = f"<{ty.lanes} x i8>"
    wide = code.op(f"zext {ty.bool} {value} to {small}")
    code.store(small, wide, code.gep("%out", index, "i8"), 1)


def machine_for(flags):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu = llvm.get_host_cpu_name() if flags is None else "x86-64"
    features = llvm.get_host_cpu_features().flatten() if flags is None else flags
    return llvm.Target.from_default_triple().create_target_machine(
        cpu, features, opt=3, reloc="pic", codemodel="small", jit=True
    )


def optimised(text, machine):
    module = llvm.parse_assembly(text)
    module.verify()
    module.triple = machine.triple
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(**jit.PASSES))
    passes.getModulePassManager().run(module, passes)
    return module


@cache
def functions(processor, dtype, lanes):
    return Functions(processor, dtype, lanes)


# ------------------------------------------------------------------ arguments and references


@cache
def special(dtype):
    info = np.finfo(dtype)
    values = [0, 1, 2, 0.5, 3, 1.5, 1e6, 2.0**24 + 2, 2.0**52 + 1, 0.333, np.inf, np.nan]
    values += [info.tiny, info.smallest_subnormal, info.max, info.eps, 88.7, 89, 104, 709.7, 746]
    values = np.array([*values, 1 - info.epsneg, 0.95, 9.5, 87.5, 100, 708.5], dtype)
    return np.concatenate([values, -values])


@cache
def arguments(dtype):
    random = np.random.default_rng(3)
    size = np.dtype(dtype).itemsize
    patterns = random.integers(0, 256, size << 15, dtype=np.uint8).view(dtype)  # NaNs too
    dense = np.linspace(-20, 20, 1 << 15)
    middle = random.standard_normal(1 << 14) * (40 if size == 4 else 300)
    small = np.exp(random.uniform(-30, 0, 1 << 14)) * random.choice([-1, 1], 1 << 14)
    near_one = 1 + random.standard_normal(1 << 12) * 1e-2
    parts = [special(dtype), patterns, dense, middle, small, near_one]
    with np.errstate(all="ignore"):
        return padded(np.concatenate([part.astype(dtype) for part in parts]))


def padded(x):
    """Up to a multiple of every number of lanes."""
    return np.concatenate([x, x[: -len(x) % 16]])


def sigmoid(x):
    small = np.exp(-np.abs(x))
    return np.where(x > 0, 1 / (1 + small), small / (1 + small)) + 0 * np.sign(x)


REFERENCE = {
    "sigmoid": sigmoid,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "erf": lambda x: torch.erf(torch.from_numpy(x.astype(np.float64))).numpy().astype(x.dtype),
    "pow": np.power,
}


@cache
def reference(op, dtype):
    """(arguments, values) in float64 for float32 and in more than float64 for float64."""
    wide = np.float64 if dtype == np.float32 else np.longdouble
    args = pairs(dtype) if op == "pow" else (arguments(dtype),)
    with np.errstate(all="ignore"):
        return args, REFERENCE.get(op, getattr(np, op, None))(*(a.astype(wide) for a in args))


@cache
def pairs(dtype):
    random = np.random.default_rng(4)
    one, other = (grid.ravel() for grid in np.meshgrid(special(dtype), special(dtype)))
    n = 1 << 14
    bases = [one, np.exp(random.uniform(-5, 5, n)), random.uniform(0.5, 2, n)]
    bases += [-random.uniform(0, 20, n)]
    wide = 60 if dtype == np.float32 else 500
    powers = [other, random.uniform(-30, 30, n), random.standard_normal(n) * wide]
    powers += [np.round(random.uniform(-12, 12, n))]
    return padded(np.concatenate(bases).astype(dtype)), padded(np.concatenate(powers).astype(dtype))


def errors_in_ulp(value, right):
    """|value - right| in units of the last place that ``right`` has in the type of ``value``."""
    info = np.finfo(value.dtype)
    with np.errstate(all="ignore"):
        rounded = right.astype(value.dtype)
        exponent = np.floor(np.log2(np.maximum(np.abs(right), info.tiny)))
        unit = np.exp2(exponent - info.nmant)
        error = np.abs(value.astype(right.dtype) - right) / unit
    same = (value == rounded) | (np.isnan(value) & np.isnan(rounded))
    error[~np.isfinite(error)] = np.inf
    error[same & ~np.isfinite(error)] = 0
    return error


def assert_same(value, right):
    """Equal, NaN where NaN is, and zeros of the same sign."""
    np.testing.assert_array_equal(value, right)
    zero = value == 0
    np.testing.assert_array_equal(np.signbit(value[zero]), np.signbit(right[zero]))


# ------------------------------------------------------------------ tests


def test_every_operation_has_an_emitter():
    assert set(EMIT) == ELEMENTWISE
    assert set(ULP) | set(EXACT) | {"not"} == {*UNARY, "pow"}


@cases
@pytest.mark.parametrize("op", ULP)
def test_error_is_within_the_table(op, processor, dtype, lanes):
    args, right = reference(op, dtype)
    value = functions(processor, dtype, lanes)(op, *args)
    error = errors_in_ulp(value, right)
    worst = int(error.argmax())
    bound = ULP[op][dtype == np.float64]
    found = f"{op}{tuple(a[worst] for a in args)} is {value[worst]!r}, right is {right[worst]!r}"
    assert error[worst] <= bound, f"{found}: {error[worst]:.2f} ulp, {bound} allowed"
    zero = (value == 0) & (right == 0)
    np.testing.assert_array_equal(np.signbit(value[zero]), np.signbit(right[zero]))


@cases
@pytest.mark.parametrize("op", EXACT)
def test_simple_functions_are_those_of_torch(op, processor, dtype, lanes):
    x = arguments(dtype)
    right = getattr(torch, op)(torch.from_numpy(x)).numpy()
    assert_same(functions(processor, dtype, lanes)(op, x), right)


@cases
@pytest.mark.parametrize("op", [*(op for op in BINARY if op not in ("pow", "and", "or")), *COMPARE])
def test_binary_operations_are_those_of_torch(op, processor, dtype, lanes):
    a, b = pairs(dtype)
    right = getattr(torch, op)(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_array_equal(functions(processor, dtype, lanes)(op, a, b), right)


@cases
def test_truth_values(processor, dtype, lanes):
    f = functions(processor, dtype, lanes)
    a, b = pairs(dtype)
    p, q = a > 0, b > a
    np.testing.assert_array_equal(f("and", p, q), p & q)
    np.testing.assert_array_equal(f("or", p, q), p | q)
    np.testing.assert_array_equal(f("not", p), ~p)
    np.testing.assert_array_equal(f("where", p, a, b), np.where(p, a, b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gates_stay_in_their_range_and_tanh_is_odd(dtype):
    f, x = functions("host", dtype, 8), arguments(dtype)
    gate, odd = f("sigmoid", x), f("tanh", x)
    number = ~np.isnan(x)
    assert ((gate >= 0) & (gate <= 1))[number].all()
    assert (np.abs(odd) <= 1)[number].all()
    np.testing.assert_array_equal(f("tanh", -x), -odd)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_is_positive_wherever_that_of_torch_is(dtype):
    x = padded(np.linspace(-800, 0, 1 << 14).astype(dtype))
    theirs = torch.sigmoid(torch.from_numpy(x)).numpy()
    assert (functions("host", dtype, 8)("sigmoid", x)[theirs > 0] > 0).all()


def called(assembly):
    return set(re.findall(r"\b(?:callq?|jmp|bl?)\s+([A-Za-z_]\w*)@?", assembly)) - {"elman_reduce"}


@cases
def test_no_call_leaves_the_code(processor, dtype, lanes):
    assert not called(functions(processor, dtype, lanes).assembly)


def test_a_call_into_the_c_library_would_be_seen():
    text = """
declare <4 x float> @llvm.sin.v4f32(<4 x float>)
define <4 x float> @f(<4 x float> %x) {
  %y = call <4 x float> @llvm.sin.v4f32(<4 x float> %x)
  ret <4 x float> %y
}"""
    machine = machine_for(None)
    assert called(machine.emit_assembly(optimised(text, machine))) & {"sinf", "sincosf"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_flag_lets_llvm_change_a_value(dtype):
    text = functions("host", dtype, 8).text
    assert not re.search(r"\b(fast|contract|reassoc|nnan|ninf|nsz|arcp|afn)\b", text)


CONSTANTS = [0.0, -0.0, 1.5, 0.1, -3.4028235677973366e38, 3.4028235677973362e38, 3.45e38, -1e39]
CONSTANTS += [1e308, 5e-324, 1e-45, 7e-46, 7.1e-46, 1e-40, 2.0**-126, 2.2e-308, 2.0**53 + 2]
CONSTANTS += [float("inf"), -float("inf"), float("nan"), float(2**63), float(10**30)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_is_a_constant(dtype):
    """Rounded as torch rounds it, beyond float32's range too."""
    code = Code()
    ty = Vector("float" if dtype == np.float32 else "double", 4)
    with code.function("void @constants(ptr %out)"):
        for i, value in enumerate(CONSTANTS):
            code.store(ty, ty.splat(value), code.gep("%out", 4 * i, ty.element))
    machine = machine_for(None)
    engine = llvm.create_mcjit_compiler(optimised(code.module(), machine), machine)
    engine.finalize_object()
    out = np.empty((len(CONSTANTS), 4), dtype)
    address = engine.get_function_address("constants")
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)(out.ctypes.data)
    kind = torch.float32 if dtype == np.float32 else torch.float64
    right = torch.tensor(CONSTANTS, dtype=torch.float64).to(kind).numpy()
    bits = np.int32 if dtype == np.float32 else np.int64
    np.testing.assert_array_equal(out.view(bits), np.repeat(right[:, None], 4, 1).view(bits))
