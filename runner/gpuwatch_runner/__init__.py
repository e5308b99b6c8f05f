"""The runner: DDColor under profiling, and the only place that imports torch.

gpuwatch starts it as a child process (`python -m gpuwatch_runner`) and reads its events; it never imports it.
"""
