"""The names that a pickle says: whether tensors need them, something else does, or they can run commands.

Nothing is imported to tell: a name is two strings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["tensor", "other", "dangerous"]
_TENSOR_NAMES = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.serialization", "_get_layout"),
        ("torch", "device"),
        ("torch", "Size"),
        ("torch", "Tensor"),
        ("_codecs", "encode"),
        ("builtins", "set"),
        ("__builtin__", "set"),
    }
)
TENSOR_MAKERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
_DANGEROUS_MODULES = frozenset(
    {
        "os", "posix", "nt", "posixpath", "ntpath", "subprocess", "sys", "socket", "shutil", "runpy", "importlib", "imp",
        "pty", "code", "codeop", "ctypes", "webbrowser", "pickle", "_pickle", "marshal", "types", "operator", "_operator",
        "functools", "asyncio", "multiprocessing", "threading", "signal", "tempfile", "pathlib", "urllib", "http",
        "requests", "httpx", "aiohttp", "ssl", "smtplib", "ftplib", "commands", "pip", "site", "zipimport", "pkgutil",
        "pydoc", "bdb", "pdb", "timeit", "trace", "cProfile", "profile", "doctest", "inspect", "gc", "torch.hub", "torch.jit",
        "torch.utils.cpp_extension", "torch._inductor", "numpy.testing", "numpy.f2py", "distutils", "setuptools",
        "dill", "cloudpickle", "joblib",
    }
)  # fmt: skip
_DANGEROUS_BUILTINS = frozenset(
    {
        "eval", "exec", "execfile", "compile", "open", "__import__", "getattr", "setattr", "delattr", "globals", "locals",
        "vars", "apply", "input", "breakpoint", "map", "filter", "type", "super", "memoryview", "dir",
    }
)  # fmt: skip
_DANGEROUS_NAMES = frozenset(
    {("torch", "load"), ("torch.storage", "_load_from_bytes"), ("torch.serialization", "load"), ("numpy", "load")}
)
"""They load another pickle, with nothing held back."""


DTYPES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
    "bool": 1, "complex64": 8, "complex128": 16, "float8_e4m3fn": 1, "float8_e5m2": 1, "uint16": 2, "uint32": 4, "uint64": 8,
}  # fmt: skip
"""Bytes of one value."""
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """A class or function that the pickle names. It was not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def kind(self) -> Kind:
        """Whether tensors need it, something else does, or it can run commands."""
        if (self.module, self.name) in _TENSOR_NAMES:
            return "tensor"
        if self.module == "torch._utils" and self.name in TENSOR_MAKERS:
            return "tensor"
        if self.module in ("torch", "torch.storage") and self.name.endswith("Storage"):
            return "tensor"
        if self.module == "torch" and self.name in DTYPES:
            return "tensor"
        root = self.module.partition(".")[0]
        if not self.module or "." in self.name:  # a name that was put together, or one that reaches through another
            return "dangerous"
        if root in ("builtins", "__builtin__"):
            return "dangerous" if self.name in _DANGEROUS_BUILTINS else "other"
        if (self.module, self.name) in _DANGEROUS_NAMES:
            return "dangerous"
        if root in _DANGEROUS_MODULES or self.module in _DANGEROUS_MODULES:
            return "dangerous"
        return "other"
