"""ComfyUI's door to gpuwatch's DDColor node. `gpuwatch node install` copies this file here as `__init__.py`.

It makes the two packages that the stamp beside it names importable, from where it says, without touching sys.path: other
nodes see none of it. Changes to these files are lost at the next install.
"""

import importlib.util
import json
import sys
from pathlib import Path

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
STAMP = Path(__file__).parent / "gpuwatch-node.json"


def introduce(name: str, folder: Path) -> None:
    """Make a package importable by its name; one that is imported already stays."""
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "__init__.py").is_file():
        raise ImportError(f"gpuwatch's DDColor node: {folder} is gone; run `gpuwatch node install` again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


if STAMP.is_file():  # beside gpuwatch's own sources there is none
    if sys.version_info < (3, 11):  # noqa: UP036 - ComfyUI's own Python runs this, which may be older
        raise ImportError(f"gpuwatch's DDColor node needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    stamp = json.loads(STAMP.read_text("utf-8"))
    for package, place in stamp["packages"].items():
        introduce(package, STAMP.parent / place)
    imported = sys.modules["gpuwatch"].__version__
    if imported != stamp["gpuwatch"]:
        raise ImportError(
            f"gpuwatch {imported} is imported in this process already, and the node is of {stamp['gpuwatch']}; "
            "run `gpuwatch node install` again"
        )
    from gpuwatch_runner.comfyui_node.node import mappings

    NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings(STAMP.parent / "needs.json")

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
