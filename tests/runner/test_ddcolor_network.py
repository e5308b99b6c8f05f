"""The network against golden outputs, and the rewrites against the network."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpuwatch.errors import UsageError
from gpuwatch_runner.cost import gflop_per_image, tokens_per_image
from gpuwatch_runner.ddcolor import REWRITES, DDColor
from gpuwatch_runner.weights import build, layout, random_state
from tests.runner.conftest import GOLDEN, State

CASES = [
    pytest.param(variant, height, width, id=f"{variant}-{height}x{width}")
    for variant, height, width in (
        ("tiny", 64, 64), ("tiny", 64, 96), ("tiny", 128, 128), ("large", 64, 64), ("large", 96, 64),
    )
]  # fmt: skip


@torch.inference_mode()
def colours(network: DDColor, golden_weights: ModuleType, height: int, width: int) -> torch.Tensor:
    ab: torch.Tensor = network(torch.from_numpy(golden_weights.make_input(height, width)))
    return ab


@pytest.mark.parametrize(("variant", "height", "width"), CASES)
def test_every_rewrite_gives_the_golden_output(
    variant: str, height: int, width: int, network: Callable[..., DDColor], golden_weights: ModuleType
) -> None:
    golden = np.load(GOLDEN / f"golden_{variant}_{height}x{width}.npy")
    official = colours(network(variant, "none"), golden_weights, height, width)
    assert np.abs(official.numpy() - golden).max() <= 1e-4
    assert torch.equal(colours(network(variant, "tail"), golden_weights, height, width), official)
    folded = colours(network(variant, "fold"), golden_weights, height, width)
    assert (folded - official).abs().max() <= 1e-5


@pytest.mark.parametrize("rewrite", REWRITES)
def test_a_batch_is_its_images(rewrite: str, network: Callable[..., DDColor]) -> None:
    images = torch.rand(3, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    tiny = network("tiny", rewrite)
    with torch.inference_mode():
        together = tiny(images)
        apart = torch.cat([tiny(image[None]) for image in images])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rewrite", REWRITES)
def test_channels_last_is_the_same_network(rewrite: str, network: Callable[..., DDColor]) -> None:
    image = torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(4))
    tiny = network("tiny", rewrite)
    with torch.inference_mode():
        plain = tiny(image)
        last = tiny.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["tiny", "large"])
def test_names_and_shapes_are_the_published_ones(variant: Any, golden_weights: ModuleType) -> None:
    published = golden_weights.load_layout(variant)
    assert {name: tuple(shape) for name, shape in layout(variant).items()} == published


@pytest.mark.parametrize("rewrite", REWRITES)
def test_loading_is_strict(rewrite: Any, tiny_state: State) -> None:
    with torch.device("meta"):
        network = DDColor("tiny", rewrite)
    short = dict(tiny_state)
    del short["refine_net.0.0.weight_u"]
    with pytest.raises(RuntimeError, match=r"refine_net\.0\.0\.weight_u"):
        network.load_state_dict(short, assign=True)
    with pytest.raises(RuntimeError, match="Unexpected"):
        network.load_state_dict({**tiny_state, "head.weight": torch.zeros(1)}, assign=True)


@pytest.mark.parametrize("rewrite", REWRITES)
def test_loading_again_folds_again(rewrite: Any, tiny_state: State, golden_weights: ModuleType) -> None:
    network = DDColor("tiny", rewrite)
    network.load_state_dict(random_state("tiny"))
    before = colours(network, golden_weights, 64, 64)
    network.load_state_dict(tiny_state)
    after = colours(network, golden_weights, 64, 64)
    assert np.abs(after.numpy() - np.load(GOLDEN / "golden_tiny_64x64.npy")).max() <= 1e-4
    assert (before - after).abs().max() > 1
    assert set(network.state_dict()) == set(tiny_state)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 3, 720, 64), "720 px: sizes are multiples of 32 px; use 704 px or 736 px"),
        ((1, 3, 64, 65), "use 64 px or 96 px"),
        ((1, 3, 16, 64), "32 px is the smallest"),
        ((1, 1, 64, 64), "takes (batch, 3, height, width), not (1, 1, 64, 64)"),
        ((3, 64, 64), "not (3, 64, 64)"),
    ],
)
def test_a_shape_it_cannot_take_is_refused_with_the_ones_beside_it(shape: tuple[int, ...], words: str) -> None:
    with torch.device("meta"):
        network = DDColor("tiny")
        image = torch.empty(shape)
    with pytest.raises(UsageError) as refused:
        network(image)
    assert words in str(refused.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rewrite", REWRITES)
def test_half_precision_runs_and_stays_near(rewrite: Any, dtype: torch.dtype, network: Callable[..., DDColor]) -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        exact = network("tiny", rewrite)(image)
        near = network("tiny", rewrite).to(dtype)(image.to(dtype))
    assert near.dtype == dtype
    assert (near.float() - exact).abs().max() < 0.03


@pytest.mark.parametrize("rewrite", REWRITES)
def test_autocast_runs_and_stays_near(rewrite: Any, network: Callable[..., DDColor]) -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    tiny = network("tiny", rewrite)
    with torch.inference_mode():
        exact = tiny(image)
        with torch.autocast("cpu", torch.float16):
            near = tiny(image)
    assert (near.float() - exact).abs().max() < 0.01


class LiveBytes(TorchDispatchMode):
    """Follows the birth and death of storages: the most bytes alive at once, and the operation that made it so."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.peak_operation = ""
        self._known: set[int] = set()

    def see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.see(tensor)
        if self.live > self.peak:
            self.peak, self.peak_operation = self.live, str(operation)
        return out


def live_peak(variant: Any, rewrite: Any, size_px: int) -> tuple[int, str]:
    with torch.device("meta"):
        network = DDColor(variant, rewrite)
        image = torch.empty(1, 3, size_px, size_px)
    with torch.inference_mode(), LiveBytes() as live:
        for held in (image, *network.parameters(), *network.buffers()):
            live.see(held)
        network(image)
    return live.peak, live.peak_operation


@pytest.mark.parametrize(("variant", "fixed_mib", "slope_bytes"), [("tiny", 258.2, 3246.0), ("large", 934.6, 3291.0)])
@pytest.mark.parametrize("size_px", [256, 512, 1280])
def test_the_official_peak_is_kept_and_the_rewrites_lower_it(
    variant: str, fixed_mib: float, slope_bytes: float, size_px: int
) -> None:
    expected = fixed_mib * 2**20 + slope_bytes * size_px**2
    peak, operation = live_peak(variant, "none", size_px)
    assert operation == "aten.avg_pool2d.default"
    assert peak == pytest.approx(expected, rel=0.0015)
    tail, _ = live_peak(variant, "tail", size_px)
    assert peak - tail == pytest.approx(1024 * size_px**2, rel=0.02)
    fold, _ = live_peak(variant, "fold", size_px)
    assert fold < tail


GFLOP = {
    "tiny": {256: 50.3, 512: 193.0, 768: 430.9, 1024: 763.9, 1280: 1192.1},
    "large": {256: 133.2, 512: 524.4, 768: 1176.6, 1024: 2089.5, 1280: 3263.4},
}


@pytest.mark.parametrize("variant", list(GFLOP), ids=lambda variant: f"of-{variant}")
def test_operations_agree_with_the_table(variant: Any) -> None:
    for size_px, expected in GFLOP[variant].items():
        assert gflop_per_image(variant, size_px) == pytest.approx(expected, rel=0.002)
    assert gflop_per_image(variant, 512, "tail") == gflop_per_image(variant, 512)
    assert gflop_per_image(variant, 512, "fold") < gflop_per_image(variant, 512)


def test_tokens_are_patches_rounded_up() -> None:
    assert tokens_per_image(512, 512) == 1024
    assert tokens_per_image(500, 30) == 32 * 2


def test_random_weights_are_the_same_every_time_and_give_colours_that_can_be_seen() -> None:
    state, again = random_state("tiny"), random_state("tiny")
    assert all(torch.equal(state[name], again[name]) for name in state)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        ab = build(state, "tiny", "none")(image)
    assert torch.isfinite(ab).all()
    assert 5 < ab.abs().max() < 128


@pytest.mark.gpu
@pytest.mark.parametrize("rewrite", REWRITES)
def test_cuda_gives_the_golden_output(
    rewrite: Any, network: Callable[..., DDColor], golden_weights: ModuleType
) -> None:
    device = torch.device("cuda")
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.inference_mode():
            ab = network("tiny", rewrite).to(device)(torch.from_numpy(golden_weights.make_input(128, 128)).to(device))
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    assert np.abs(ab.cpu().numpy() - np.load(GOLDEN / "golden_tiny_128x128.npy")).max() <= 1e-3


@pytest.mark.gpu
def test_cuda_allocates_what_is_live(network: Callable[..., DDColor]) -> None:
    device = torch.device("cuda")
    tiny = network("tiny").to(device)
    image = torch.rand(1, 3, 512, 512, device=device)
    with torch.inference_mode():
        tiny(image)
        torch.cuda.reset_peak_memory_stats(device)
        tiny(image)
    live, _ = live_peak("tiny", "none", 512)
    # Rounded blocks and a library's workspace come on top, and nothing else.
    assert live <= torch.cuda.max_memory_allocated(device) <= live + 64 * 2**20
