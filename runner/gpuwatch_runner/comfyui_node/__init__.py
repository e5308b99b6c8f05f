"""`GpuwatchDDColor`, a node for ComfyUI: DDColor with the exact rewrites, a precision, and under ComfyUI's memory management.

`gpuwatch node install` puts it in place; `entry.py` is then the pack's `__init__.py`. ComfyUI's own modules are looked up
when a prompt runs, never when this is imported, so everything here can be tested beside it.
"""
