"""A folder shaped like ComfyUI: the modules that a node meets, with ComfyUI's names and signatures, and no more behind them.

`free_bytes` in comfy.model_management is what it pretends to have free. Weights are counted as loaded and unloaded; on a CPU
there is no second device to move them to.
"""

from __future__ import annotations

from pathlib import Path

MODEL_MANAGEMENT = """
import torch

OOM_EXCEPTION = torch.cuda.OutOfMemoryError
current_loaded_models = []
free_bytes = 1 << 40
total_bytes = 1 << 40
device = torch.device("cpu")
asked = []
emptied = 0
interrupted = False


class InterruptProcessingException(Exception):
    pass


class LoadedModel:
    def __init__(self, model):
        self.model = model
        self.device = model.load_device

    def __eq__(self, other):
        return self.model is other.model


def get_torch_device():
    return device


def unet_offload_device():
    return torch.device("cpu")


def intermediate_device():
    return torch.device("cpu")


def get_free_memory(dev=None, torch_free_too=False):
    return (free_bytes, free_bytes) if torch_free_too else free_bytes


def get_total_memory(dev=None, torch_total_too=False):
    return (total_bytes, total_bytes) if torch_total_too else total_bytes


def soft_empty_cache(force=False):
    global emptied
    emptied += 1


def free_memory(memory_required, device, keep_loaded=[]):
    asked.append(("free_memory", memory_required))


def load_models_gpu(models, memory_required=0, force_patch_weights=False, minimum_memory_required=None, force_full_load=False):
    for model in models:
        asked.append(("load_models_gpu", memory_required, force_full_load))
        loaded = LoadedModel(model)
        if loaded in current_loaded_models:
            current_loaded_models.remove(loaded)
        model.partially_load(model.load_device, 1e32)
        current_loaded_models.insert(0, loaded)


def unload_all_models():
    while current_loaded_models:
        current_loaded_models.pop().model.detach(True)


def throw_exception_if_processing_interrupted():
    if interrupted:
        raise InterruptProcessingException()
"""

MODEL_PATCHER = """
class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, weight_inplace_update=False):
        self.model = model
        self.size = size
        self.load_device = load_device
        self.offload_device = offload_device
        self.parent = None
        if not hasattr(model, "device"):
            model.device = offload_device
        model.model_loaded_weight_memory = 0

    def model_size(self):
        return self.size

    def loaded_size(self):
        return self.model.model_loaded_weight_memory

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        self.model.to(device_to)
        self.model.device = device_to
        self.model.model_loaded_weight_memory = self.size

    def detach(self, unpatch_all=True):
        self.model.to(self.offload_device)
        self.model.device = self.offload_device
        self.model.model_loaded_weight_memory = 0
        return self.model
"""

UTILS = """
updates = []


class ProgressBar:
    def __init__(self, total, node_id=None):
        self.total = total

    def update(self, value):
        updates.append((value, self.total))
"""

FOLDER_PATHS = """
import os

base_path = os.path.dirname(os.path.abspath(__file__))
models_dir = os.path.join(base_path, "models")
folder_names_and_paths = {"custom_nodes": ([os.path.join(base_path, "custom_nodes")], set())}


def get_folder_paths(folder_name):
    return folder_names_and_paths[folder_name][0][:]
"""

NODES = '''
import importlib.util
import os
import sys
import traceback


def load_custom_node(module_path):
    """As ComfyUI does: by the folder's path, under a name made of it."""
    name = module_path.replace(".", "_x_")
    try:
        spec = importlib.util.spec_from_file_location(name, os.path.join(module_path, "__init__.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except Exception:
        traceback.print_exc()
        return None
'''


def make_comfyui(folder: Path, *, patcher: bool = True) -> Path:
    """Write it; `patcher=False` leaves out what versions before ModelPatcher lack."""
    files = {
        "main.py": "",
        "nodes.py": NODES,
        "folder_paths.py": FOLDER_PATHS,
        "comfy/__init__.py": "",
        "comfy/model_management.py": MODEL_MANAGEMENT,
        "comfy/utils.py": UTILS,
        "custom_nodes/example_node.py.example": "",
        "models/ddcolor/put_models_here": "",
    }
    if patcher:
        files["comfy/model_patcher.py"] = MODEL_PATCHER
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    return folder
