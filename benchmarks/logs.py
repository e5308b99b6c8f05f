"""A made-up ComfyUI log of any length, the same bytes for the same seed.

Mostly what a healthy server prints: start-up, prompts, progress bars that return to the line's begin, paths with spaces
and Chinese; now and then a failure with its traceback. What it holds is drawn at random, so it is for measuring speed, and
proves nothing about what is found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_MODELS = (
    "flux1-dev.safetensors",
    "sd_xl_base_1.0.safetensors",
    "国风3.safetensors",
    "ddcolor_paper_tiny.pth",
    "ae.sft",
)
_PACKS = ("ComfyUI-Manager", "ComfyUI-DDColor", "rgthree-comfy", "ComfyUI-KJNodes", "图像工具")
_NODES = ("KSampler", "VAEDecode", "DDColor_Colorize", "CheckpointLoaderSimple", "CLIPTextEncode", "LoadImage")
_ROOTS = ("/opt/ComfyUI", "/home/user/My Projects/ComfyUI", "D:\\AI\\ComfyUI", "/mnt/模型/ComfyUI")
_FILES = (
    "execution.py",
    "nodes.py",
    "comfy/samplers.py",
    "comfy/model_management.py",
    "comfy/ldm/modules/attention.py",
)


@dataclass(frozen=True, slots=True)
class Log:
    """A generated log and what is in it."""

    path: Path
    size_bytes: int
    lines: int
    failures: int


def write_log(path: Path, size_bytes: int, *, failure_ratio: float, seed: int = 1) -> Log:
    """Write a log of at least `size_bytes`; `failure_ratio` of its entries are failures, the others healthy."""
    written = lines = failures = 0
    random_source = random.Random(seed)  # noqa: S311 - the same log on every run is what is wanted
    entries = _Entries(random_source)
    with path.open("wb") as file:
        while written < size_bytes:
            failed = random_source.random() < failure_ratio
            entry = "".join(f"{line}\n" for line in (entries.failure() if failed else entries.healthy())).encode()
            file.write(entry)
            written += len(entry)
            lines += entry.count(b"\n")
            failures += failed
    return Log(path, written, lines, failures)


class _Entries:
    """Draws one entry after the other from one source of chance."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._milliseconds = 0
        self._healthy: tuple[Callable[[], Iterator[str]], ...] = (
            self._prompt,
            self._loading,
            self._loading,
            self._progress,
            self._request,
            self._imports,
            self._words,
        )

    def healthy(self) -> Iterator[str]:
        """What a server prints while all is well."""
        return self._source.choice(self._healthy)()

    def failure(self) -> Iterator[str]:
        """One failure, from its first line to its last."""
        return self._source.choice((self._out_of_memory, self._wrong_type, self._xid, self._missing_file))()

    def _pick(self, *choices: str) -> str:
        return self._source.choice(choices)

    def _number(self, most: float) -> float:
        return self._source.random() * most

    def _stamp(self) -> str:
        self._milliseconds += self._source.randrange(900)
        seconds, milliseconds = divmod(self._milliseconds, 1000)
        minutes, second = divmod(seconds, 60)
        hours, minute = divmod(minutes, 60)
        return f"2026-01-{hours // 24 % 28 + 1:02} {hours % 24:02}:{minute:02}:{second:02}.{milliseconds:03}"

    def _begin(self) -> str:
        return self._pick("", "", f"[{self._stamp()}] ", "[INFO] ", "comfyui-1  | ")

    def _prompt(self) -> Iterator[str]:
        yield f"{self._begin()}got prompt"
        yield f"{self._begin()}model weight dtype torch.{self._pick('float16', 'bfloat16')}, manual cast: None"
        yield f"{self._begin()}Prompt executed in {self._number(90):.2f} seconds"

    def _loading(self) -> Iterator[str]:
        yield f"{self._begin()}Requested to load {self._pick('SDXL', 'Flux', 'AutoencodingEngine')}"
        usable, loaded = self._number(24_000), self._number(9_000)
        yield f"{self._begin()}loaded completely; {usable:.2f} MB usable, {loaded:.2f} MB loaded, full load: True"
        yield f"{self._begin()}{self._pick(*_ROOTS)}/models/checkpoints/{self._pick(*_MODELS)}"

    def _progress(self) -> Iterator[str]:
        steps = self._source.choice((20, 28, 50))
        pace = self._number(3) + 0.2
        frames = []
        for step in range(0, steps + 1, max(1, steps // 8)):
            bar, spent = "█" * (10 * step // steps), int(step * pace) % 60
            frames.append(f"{100 * step // steps:3}%|{bar:<10}| {step}/{steps} [00:{spent:02}<00:09, {pace:.2f}s/it]")
        yield "\r".join(frames)

    def _request(self) -> Iterator[str]:
        yield f'127.0.0.1 - - [{self._stamp()}] "GET {self._pick("/queue", "/history?max_items=64", "/prompt")} HTTP/1.1" 200 -'

    def _imports(self) -> Iterator[str]:
        for _ in range(3):
            yield f"   {self._number(4):.1f} seconds: {self._pick(*_ROOTS)}/custom_nodes/{self._pick(*_PACKS)}"

    def _words(self) -> Iterator[str]:
        yield f"{self._begin()}DEBUG memory: allocated {self._number(20):.2f} GiB of device 0, no OOM seen"
        yield f"{self._begin()}WARNING: {self._pick(*_NODES)} has an optional input that failed validation: using its default"

    def _raised(self, error: str) -> Iterator[str]:
        yield f"!!! Exception during processing !!! {error.partition(': ')[2]}"
        yield "Traceback (most recent call last):"
        for _ in range(self._source.randrange(3, 9)):
            file = f"{self._pick(*_ROOTS)}/{self._pick(*_FILES)}"
            yield f'  File "{file}", line {self._source.randrange(20, 2400)}, in {self._pick("execute", "forward", "sample")}'
            yield f"    {self._pick('return forward_call(*args, **kwargs)', 'x = self.proj(x)', 'out = fn(*inputs)')}"
        yield error

    def _out_of_memory(self) -> Iterator[str]:
        total = self._source.choice((8, 12, 16, 24))
        held = self._number(total - 1)
        yield from self._raised(
            f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {self._number(4):.2f} GiB. GPU 0 has a total "
            f"capacity of {total}.00 GiB of which {self._number(900):.2f} MiB is free. Including non-PyTorch memory, this "
            f"process has {held + 0.5:.2f} GiB memory in use. Of the allocated memory {held:.2f} GiB is allocated by "
            f"PyTorch, and {self._number(300):.2f} MiB is reserved by PyTorch but unallocated."
        )
        yield "Got an OOM, unloading all loaded models."

    def _wrong_type(self) -> Iterator[str]:
        yield from self._raised("RuntimeError: mat1 and mat2 must have the same dtype, but got Half and Float")

    def _xid(self) -> Iterator[str]:
        number = self._source.choice((13, 31, 79))
        yield f"[{self._milliseconds / 1000:12.6f}] NVRM: Xid (PCI:0000:3b:00): {number}, pid=4121, name=python3, Ch 00000008"

    def _missing_file(self) -> Iterator[str]:
        yield from self._raised(
            f"FileNotFoundError: [Errno 2] No such file or directory: '{self._pick(*_ROOTS)}/models/{self._pick(*_MODELS)}'"
        )
