"""What `gpuwatch demo` shows: a recorded ComfyUI session that runs out of memory, and a photo to colorize.

`oom_large_1280.jsonl` is a session of ComfyUI 0.24.0 with the large DDColor network at 1280 on a 6 GiB card; no GPU took part:
the CUDA error texts were injected at the network's peak with the numbers of its real need. `portrait.jpg` is an official
United States Navy portrait of Grace Hopper, in the public domain, made grey.
"""
