"""Memory traces: what a network allocates and frees, step by step, as exact polynomials in the size of its input.

A trace is made once, on any machine, without computing anything: the network runs on tensors that have a shape and a device
and no data. gpuwatch's core replays it through a model of CUDA's caching allocator, without torch, at any size.

A third party traces a network of theirs with `compile_trace`: a factory that builds the network, and one that makes its
input of a size. What an operator takes inside of itself (a convolution's workspace) is in no trace; it is calibration.
"""

from gpuwatch_runner.tracing.compiling import Subject, compile_trace

__all__ = ["Subject", "compile_trace"]
