"""Which network a checkpoint holds, told by the names and shapes of its tensors; and where DDColor's are published.

Reading the file is left to `adapters/checkpoint_file.py`; building the network to the runner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from gpuwatch.core.pickled_names import Named
from gpuwatch.core.tensors import Tensor

Source = Literal["huggingface", "modelscope"]
SOURCES: tuple[Source, ...] = ("huggingface", "modelscope")
HUGGINGFACE = "https://huggingface.co"
MODELSCOPE = "https://modelscope.cn"

VARIANT_ENTRY = "encoder.arch.stages.0.0.norm.weight"
"""The first norm of DDColor's encoder: as many values as the variant's first stage has channels."""
VARIANT_CHANNELS: Mapping[int, Literal["tiny", "large"]] = MappingProxyType({96: "tiny", 192: "large"})
LAYOUT_DIGESTS: Mapping[str, str] = MappingProxyType(
    {
        "tiny": "5818874f0b31328744cd1326f5eb356a03df5a010c51141ae877d0828cafc554",
        "large": "a0682a60ed093e569d96ef0c1dc9f6f1aadd862781cdea194111f18c2fbb9b43",
    }
)
"""SHA-256 over the sorted names and shapes of the published layouts, as `layout_digest` makes it."""
WRAPPERS = ("params", "params_ema", "state_dict", "model", "module")
"""Keys under which checkpoints keep their table."""


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that DDColor's authors publish."""

    name: str
    variant: Literal["tiny", "large"]
    paths: Mapping[Source, str]
    """Where it stands on each site, after the site's address."""
    about_bytes: int
    """Its size, roughly: the weights' own, to be compared with the room on the disk before the server tells."""
    sha256: str | None = None
    """None: its authors publish no hash, so what a server sends can only be compared with what that server tells."""

    @property
    def file(self) -> str:
        """Its file name, which is also the DDColor node's word for it."""
        return f"ddcolor_{self.name}.pth"

    def url(self, source: Source, endpoint: str | None = None) -> str | None:
        """Its address; None where that site does not have it."""
        path = self.paths.get(source)
        site = endpoint or {"huggingface": HUGGINGFACE, "modelscope": MODELSCOPE}[source]
        return f"{site.rstrip('/')}/{path}" if path else None


_TINY_BYTES, _LARGE_BYTES = 220_400_000, 911_950_000


def _published(name: str, variant: Literal["tiny", "large"], modelscope: str | None = None) -> Published:
    paths: dict[Source, str] = {"huggingface": f"piddnad/DDColor-models/resolve/main/ddcolor_{name}.pth"}
    if modelscope:
        paths["modelscope"] = modelscope
    return Published(name, variant, MappingProxyType(paths), _TINY_BYTES if variant == "tiny" else _LARGE_BYTES)


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        each.name: each
        for each in (
            _published("paper_tiny", "tiny"),
            _published(
                "modelscope", "large", "models/damo/cv_ddcolor_image-colorization/resolve/master/pytorch_model.pt"
            ),
            _published("artistic", "large"),
            _published("paper", "large"),
        )
    }
)


@dataclass(frozen=True, slots=True)
class Network:
    """What the tensors belong to."""

    name: str | None
    """A network's name, "DDColor" among them; None where the names of the tensors do not tell."""
    variant: Literal["tiny", "large"] | None = None
    complete: bool = False
    """Every name and shape is as published; so far only known for DDColor."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a checkpoint file is, as far as it could be read."""

    path: str
    size_bytes: int
    format: str
    """safetensors, torch (zip), torch (legacy), pickle, TorchScript, GGUF, git-lfs pointer, HTML page, empty, unknown."""
    network: Network
    tensors: int = 0
    parameters: int = 0
    """Numbers in all tensors, buffers included."""
    dtypes: Mapping[str, int] = field(default_factory=dict)
    """How many tensors have each dtype."""
    names: tuple[Named, ...] = ()
    """What a pickle names besides what tensors need."""
    damaged: str | None = None
    sha256: str | None = None

    @property
    def dangerous(self) -> tuple[Named, ...]:
        """The names among those that can run commands."""
        return tuple(name for name in self.names if name.kind == "dangerous")

    @property
    def usable(self) -> bool:
        """Whether the runner will load it."""
        return self.network.complete and not self.names and self.damaged is None


def layout_digest(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """One number for all names and shapes, whatever their order."""
    lines = sorted(f"{name} {','.join(str(length) for length in shape)}" for name, shape in shapes)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()


def unwrapped(names: Iterable[str]) -> str:
    """The prefix that all names share where it is a wrapper's (`params.`), else nothing."""
    heads = {name.partition(".")[0] for name in names}
    head = heads.pop() if len(heads) == 1 else ""
    return f"{head}." if head in WRAPPERS else ""


def identify(tensors: Mapping[str, Tensor]) -> Network:
    """Tell the network by its tensors' names and shapes."""
    prefix = unwrapped(tensors)
    shapes = {name.removeprefix(prefix): tensor.shape for name, tensor in tensors.items()}
    first = shapes.get(VARIANT_ENTRY)
    if first is not None and len(first) == 1:
        variant = VARIANT_CHANNELS.get(first[0])
        complete = variant is not None and layout_digest(shapes.items()) == LAYOUT_DIGESTS[variant]
        return Network("DDColor", variant, complete)
    for name, signs in _SIGNS:
        if all(any(entry.startswith(sign) or f".{sign}" in entry for entry in shapes) for sign in signs):
            return Network(name)
    return Network(None)


_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("LoRA", ("lora_unet_",)),
    ("LoRA", ("lora_A.", "lora_B.")),
    ("LoRA", ("lora_up.", "lora_down.")),
    ("ControlNet", ("control_model.",)),
    ("ControlNet (diffusers)", ("controlnet_cond_embedding.",)),
    ("Stable Diffusion XL", ("conditioner.embedders.1.", "model.diffusion_model.")),
    ("Stable Diffusion 3", ("model.diffusion_model.joint_blocks.",)),
    ("Stable Diffusion 3", ("joint_blocks.0.context_block.",)),
    ("Flux", ("double_blocks.0.img_attn.", "single_blocks.0.")),
    ("Stable Diffusion 2", ("cond_stage_model.model.", "model.diffusion_model.")),
    ("Stable Diffusion 1", ("cond_stage_model.transformer.", "model.diffusion_model.")),
    ("a diffusion U-Net", ("input_blocks.0.0.", "middle_block.0.", "output_blocks.0.0.")),
    ("a diffusers U-Net", ("down_blocks.0.resnets.", "mid_block.", "time_embedding.")),
    ("a VAE", ("decoder.conv_in.", "encoder.conv_in.", "encoder.mid")),
    ("GFPGAN", ("stylegan_decoder.",)),
    ("CodeFormer", ("quantize.embedding.", "position_emb", "fuse_convs_dict.")),
    ("ESRGAN", ("conv_first.", "body.0.rdb1.")),
    ("ESRGAN", ("model.1.sub.0.RDB1.",)),
    ("SwinIR", ("layers.0.residual_group.", "conv_after_body.")),
    ("Segment Anything", ("image_encoder.patch_embed.", "mask_decoder.")),
    ("CLIP vision", ("vision_model.encoder.layers.",)),
    ("CLIP text", ("text_model.encoder.layers.",)),
    ("T5", ("encoder.block.0.layer.0.SelfAttention.",)),
    ("a language model", ("layers.0.self_attn.q_proj.", "embed_tokens.")),
    ("ConvNeXt", ("downsample_layers.0.0.", "stages.0.0.dwconv.")),
    ("ResNet", ("layer1.0.conv1.", "layer4.0.conv1.")),
)
"""Other networks by what their tensors' names begin with, or have after a dot; the first whose signs are all there."""
