from elman.compiler.ir import *
def simplify(outputs): return tuple(outputs)
def simplify_step(step): return step
def simplify_beside(new, old): return tuple(new)
