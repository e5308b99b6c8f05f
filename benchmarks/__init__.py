"""What gpuwatch costs and what it gains, measured: `python -m benchmarks` on any machine, `python -m benchmarks.gpu` on CUDA."""
