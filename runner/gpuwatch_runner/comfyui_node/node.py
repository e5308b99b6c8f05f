"""The node: same inputs and output as the stock `DDColor_Colorize`, and two more that it has not.

`precision` is auto, fp32, fp16 or bf16; auto is fp32 where one image fits the card, else fp16. `low_memory` picks the exact
rewrite. A batch runs in passes of as many images as fit; where memory runs out, a pass is halved and tried again. Nothing is
downloaded: a checkpoint that is nowhere is an error that says where it was looked for.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gpuwatch.core.checkpoint import PUBLISHED
from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.settings import data_folder
from gpuwatch.texts import Text, language_of, plain, render, text, use
from gpuwatch_runner.colorize import grey_of
from gpuwatch_runner.comfyui_node.images import colourized, rgb_of
from gpuwatch_runner.comfyui_node.models import DTYPES, Held, Models, management
from gpuwatch_runner.comfyui_node.needs import MARGIN_BYTES, Needs, images_indexed, read_needs
from gpuwatch_runner.ddcolor import Rewrite
from gpuwatch_runner.sizes import require_size

NAME = "GpuwatchDDColor"
LARGEST_PX = 4096
REWRITES: dict[str, Rewrite] = {"fold": "fold", "tail": "tail", "off": "none"}
STOCK_PACKS = ("ComfyUI-DDColor", "comfyui-ddcolor")
CHECKPOINTS = [each.file for each in PUBLISHED.values()]
SUFFIXES = (".pth", ".pt", ".safetensors")

_log = logging.getLogger("gpuwatch")


def mappings(needs: Path) -> tuple[dict[str, type], dict[str, str]]:
    """What ComfyUI asks a pack for: the nodes by name, and their names on the screen."""
    use(language_of(None))
    GpuwatchDDColor.needs = read_needs(needs)
    return {NAME: GpuwatchDDColor}, {NAME: "DDColor Colorize (gpuwatch)"}


class GpuwatchDDColor:
    """Colorizes images with DDColor."""

    needs: ClassVar[Needs] = Needs()
    models: ClassVar[Models] = Models()

    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("colorized_image",)
    FUNCTION = "process"
    CATEGORY = "gpuwatch"
    DESCRIPTION = (
        "Colorizes photos with DDColor in a third of the stock node's memory. Takes the place of DDColor_Colorize as it is: "
        "precision and low_memory have defaults."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802 - ComfyUI's name
        """The inputs; those that the stock node lacks are optional, so that its workflows run here unchanged."""
        return {
            "required": {
                "image": ("IMAGE",),
                "model_input_size": ("INT", {"default": 512, "min": 32, "max": LARGEST_PX, "step": 32}),
                "checkpoint": (known_checkpoints(), {"default": "ddcolor_paper_tiny.pth"}),
            },
            "optional": {
                "precision": (["auto", *DTYPES], {"default": "auto"}),
                "low_memory": (list(REWRITES), {"default": "fold"}),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model_input_size: Any = None) -> bool | str:  # noqa: N802
        """Refuse a size that the network cannot take before the prompt runs; ComfyUI itself checks only the bounds."""
        if model_input_size is None:  # linked: its value is not known yet
            return True
        try:
            checked_size(model_input_size)
        except GpuwatchError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, checkpoint: Any = None, **_others: Any) -> str:  # noqa: N802
        """Run again where the checkpoint's file has changed, never otherwise."""
        try:
            path = find_checkpoint(str(checkpoint))
            status = path.stat()
        except (GpuwatchError, OSError):
            return "missing"
        return f"{path} {status.st_mtime_ns} {status.st_size}"

    def process(
        self, image: Tensor, model_input_size: int, checkpoint: str, precision: str = "auto", low_memory: str = "fold"
    ) -> tuple[Tensor]:
        """Colorize (B, H, W, C) in 0..1: (B, H, W, 3). Raises ValueError, whose words ComfyUI shows, for what it cannot run."""
        try:
            side_px = checked_size(model_input_size)
            rewrite = REWRITES[low_memory]
            if images_indexed(rewrite, side_px) < 1:
                raise UsageError(
                    text("{side_px} is beyond CUDA's 32-bit indices without the fold rewrite", side_px=side_px),
                    text("Set low_memory to fold, or model_input_size to 2880 or less."),
                )
            path = find_checkpoint(checkpoint)
            dtype = self.dtype_for(path, precision, rewrite, side_px)
            held = self.models.get(path, rewrite, dtype)
            return (self.colourize(held, dtype, rewrite, side_px, image, automatic=precision == "auto"),)
        except GpuwatchError as error:
            hint = f" {render(error.hint)}" if error.hint is not None else ""
            raise ValueError(f"{error}{hint}") from error

    def dtype_for(self, path: Path, precision: str, rewrite: Rewrite, side_px: int) -> str:
        """The precision: as asked; for auto fp32 where one image fits the whole card, else fp16."""
        if precision != "auto":
            return precision
        mm = management()
        device = mm.get_torch_device()
        if device.type != "cuda":
            return "fp32"
        # The file is read only when the precision is known; one that does not say it is tiny is taken for the larger.
        variant = "tiny" if "tiny" in path.name else "large"
        need = self.needs.bytes_of(variant, rewrite, "fp32", side_px, 1)
        if need is None or need + MARGIN_BYTES <= mm.get_total_memory(device):
            return "fp32"
        tell(text("fp32 would need {need_bytes} at {side_px}, more than the card has: fp16 is used",
                  need_bytes=need, side_px=side_px))  # fmt: skip
        return "fp16"

    def colourize(
        self, held: Held, dtype: str, rewrite: Rewrite, side_px: int, image: Tensor, *, automatic: bool
    ) -> Tensor:
        """Run the batch in passes that fit."""
        mm = management()
        variant = held.network.variant
        one = self.needs.bytes_of(variant, rewrite, dtype, side_px, 1)
        need_bytes = max((one or 0) - held.weights_bytes, 0) + MARGIN_BYTES
        results = torch.empty((image.shape[0], *image.shape[1:3], 3), dtype=torch.float32)
        with held.on_device(need_bytes) as network, torch.inference_mode():
            free_bytes = mm.get_free_memory(held.device)
            images = self.needs.images_that_fit(
                variant, rewrite, dtype, side_px,
                wanted=image.shape[0], free_bytes=free_bytes, weights_bytes=held.weights_bytes,
            )  # fmt: skip
            progress = progress_of(image.shape[0])
            done = 0
            while done < image.shape[0]:
                mm.throw_exception_if_processing_interrupted()
                photos = [rgb_of(each) for each in image[done : done + images]]
                failure = None
                try:
                    colours = infer(network, held.device, [grey_of(photo, side_px) for photo in photos])
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    failure = str(error)
                if failure is not None:  # out of the handler, whose traceback holds on to the tensors
                    mm.soft_empty_cache()
                    if images == 1:
                        said = explained(variant, rewrite, dtype, side_px, need_bytes=one, free_bytes=free_bytes)
                        raise torch.cuda.OutOfMemoryError(f"{failure}\n{said}")
                    images //= 2
                    tell(text("memory ran out: {images} images in a pass from here on", images=images))
                    continue
                if not torch.isfinite(colours).all():
                    raise not_a_number(dtype, automatic=automatic)
                for place, (photo, ab) in enumerate(zip(photos, colours, strict=True)):
                    results[done + place] = colourized(photo, ab)
                done += len(photos)
                progress(len(photos))
        return results.to(mm.intermediate_device()) if hasattr(mm, "intermediate_device") else results


def infer(network: Any, device: torch.device, greys: list[Any]) -> Tensor:
    """Run the network on greys (S, S): their ab (B, 2, S, S), in host memory."""
    dtype = next(network.parameters()).dtype
    batch = torch.from_numpy(np.stack(greys))[:, None].to(device, dtype)
    ab: Tensor = network(batch.repeat(1, 3, 1, 1)).float().cpu()
    return ab


def checked_size(size: Any) -> int:
    """The size, if the network takes it; else UsageError with the sizes beside it."""
    if isinstance(size, bool) or not isinstance(size, int):
        raise UsageError(text("model_input_size is a whole number, not {size}", size=str(size)[:40]))
    if size > LARGEST_PX:
        raise UsageError(text("model_input_size is {most_px} at the most, not {size}", most_px=LARGEST_PX, size=size))
    return require_size(size)


def checkpoint_places() -> list[Path]:
    """Where checkpoints are looked for: models/ddcolor, the stock node's own folder, gpuwatch's."""
    places: list[Path] = []
    try:
        folder_paths = importlib.import_module("folder_paths")
    except ImportError:
        folder_paths = None
    if folder_paths is not None:
        places += [Path(each) for each in _registered(folder_paths, "ddcolor")]
        places.append(Path(folder_paths.models_dir) / "ddcolor")
        for packs in _registered(folder_paths, "custom_nodes"):
            places += [Path(packs) / pack / "checkpoints" for pack in STOCK_PACKS]
    data = data_folder()
    return list(dict.fromkeys([*places, *([data / "checkpoints"] if data is not None else [])]))


def _registered(folder_paths: Any, kind: str) -> list[str]:
    try:
        return [str(each) for each in folder_paths.get_folder_paths(kind)]
    except (KeyError, AttributeError):
        return []


def known_checkpoints() -> list[str]:
    """The stock node's four names, and what else lies where checkpoints are looked for."""
    found: set[str] = set()
    for place in checkpoint_places():
        try:
            found.update(each.name for each in place.iterdir() if each.suffix.lower() in SUFFIXES)
        except OSError:
            continue
    return [*CHECKPOINTS, *sorted(found - set(CHECKPOINTS))]


def find_checkpoint(name: str) -> Path:
    """The file of that name; UsageError where it is in none of the places, or is no plain name."""
    if name != Path(name).name or "\\" in name or name in ("", ".", ".."):
        raise UsageError(text("{name} is not the name of a checkpoint", name=name[:80]))
    places = checkpoint_places()
    for place in places:
        if (place / name).is_file():
            return place / name
    known = next((each.name for each in PUBLISHED.values() if each.file == name), None)
    looked = plain(", ".join(str(place) for place in places))
    raise UsageError(
        text("The checkpoint {name} is in none of: {places}", name=name, places=looked),
        text("`gpuwatch checkpoint get {name}` downloads it.", name=known)
        if known
        else text("Put the file into one of them."),
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the card's memory ran out, as this ComfyUI and PyTorch say it."""
    mm = management()
    if hasattr(mm, "is_oom"):
        return bool(mm.is_oom(error))
    return isinstance(error, torch.cuda.OutOfMemoryError)


def explained(
    variant: str, rewrite: Rewrite, dtype: str, side_px: int, *, need_bytes: float | None, free_bytes: float
) -> str:
    """What ran out, in numbers, and what would need less."""
    said = text(
        "GpuwatchDDColor: one image at {side_px} ({variant} network, {dtype}, rewrite {rewrite}) did not fit: predicted "
        "{need_bytes} at most, weights included; {free_bytes} was free besides the weights.",
        side_px=side_px, variant=variant, dtype=dtype, rewrite=rewrite,
        need_bytes=None if need_bytes is None else math.ceil(need_bytes), free_bytes=math.floor(free_bytes),
    )  # fmt: skip
    return f"{render(said)} {render(way_out(rewrite, dtype))}"


def way_out(rewrite: Rewrite, dtype: str) -> Text:
    """The next thing to try, what changes the picture least in front."""
    if rewrite != "fold":
        return text("Set low_memory to fold: the same picture from less memory.")
    if dtype == "fp32":
        return text("Set precision to fp16.")
    return text("Set model_input_size lower, or use ddcolor_paper_tiny.pth.")


def not_a_number(dtype: str, *, automatic: bool) -> UsageError:
    """The error for colours that are no numbers."""
    return UsageError(
        text("The network's output has values that are not numbers in {dtype}", dtype=dtype),
        text("Set model_input_size lower, so that fp32 fits.") if automatic else text("Set precision to fp32."),
    )


def tell(words: Text) -> None:
    """Say it in ComfyUI's log."""
    _log.warning("GpuwatchDDColor: %s", render(words))


def progress_of(images: int) -> Callable[[int], None]:
    """ComfyUI's progress bar under the node."""
    try:
        update: Callable[[int], None] = importlib.import_module("comfy.utils").ProgressBar(images).update
    except (ImportError, AttributeError, TypeError):
        return lambda _done: None
    return update
