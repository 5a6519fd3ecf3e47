"""From a layer to a backend and back.

scan        the contract: what a run over time is
dispatch    which backend runs it, and why
plans       the plan of a cell, made once
prepare     lengths to rows; x, weights, states and masks as one record
records     what goes into a loop, comes out, and is saved for its gradients, by name
function    the operation that torch differentiates
launch      one run of a plan: its memory (buffers), its loops, its gradients
after       the gradients of x and of the weights, once the backward loop is done
concurrent  two runs at the same time
recompute   long sequences, a segment at a time
custom_op   the same for torch.compile and torch.export
"""
