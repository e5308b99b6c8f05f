"""The profile of our own node names the inputs and defaults that the node has."""

from __future__ import annotations

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch_runner.comfyui_node.node import NAME, REWRITES, GpuwatchDDColor


def test_the_profile_has_the_inputs_of_the_node() -> None:
    profile = load_workloads().find(NAME, None)
    assert profile is not None
    kinds = GpuwatchDDColor.INPUT_TYPES()
    for asked in (profile.dtype_input, profile.rewrite_input):
        assert asked is not None
        choices, options = kinds["optional"][asked.name]
        assert set(asked.values) == set(choices)
        assert asked.default == options["default"]
    assert profile.rewrite_input is not None
    assert {value: forms[0] for value, forms in profile.rewrite_input.values.items()} == REWRITES
    size = kinds["required"][profile.size_input][1]
    assert (size["default"], size["min"], size["max"], size["step"]) == (
        profile.default_px, profile.min_px, profile.max_px, profile.step_px,
    )  # fmt: skip
    assert {name for variant in profile.variants.values() for name in variant.checkpoints} <= set(
        kinds["required"][profile.checkpoint_input][0]
    )
