"""gpuwatch: sees a GPU failure beside ComfyUI, says what happened in numbers, and fixes it."""

__version__ = "0.1.0"
