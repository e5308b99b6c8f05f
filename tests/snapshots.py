"""Memory snapshots as `torch.cuda.memory._snapshot()` gives them, constructed: no GPU made them.

The keys, their order and what is shared follow torch/csrc/cuda/Module.cpp and c10/cuda/CUDACachingAllocator.cpp: sizes of
actions are as asked for, a block is rounded up to 512 bytes, a segment to 2 MiB (small) or 20 MiB (large), frame dicts are
shared between stacks, and a block's frames are the very list of the action that took it.
"""

from __future__ import annotations

from typing import Any

MIB = 1 << 20
BASE = 0x7F3A_0000_0000


class Allocator:
    """Hands out addresses one after the other, and writes down what it does as PyTorch does."""

    def __init__(self, *, began_us: int = 1_790_000_000_000_000) -> None:
        self.trace: list[dict[str, Any]] = []
        self.segments: list[dict[str, Any]] = []
        self._frames: dict[tuple[str, str, int], dict[str, Any]] = {}
        self._live: dict[int, dict[str, Any]] = {}
        self._time_us = began_us

    def frames(self, *places: tuple[str, str, int]) -> list[dict[str, Any]]:
        return [
            self._frames.setdefault((name, file, line), {"name": name, "filename": file, "line": line})
            for name, file, line in places
        ]

    def _note(self, action: str, size: int, frames: list[dict[str, Any]], **more: Any) -> None:
        self._time_us += 10
        self.trace.append(
            {"action": action, **more, "size": size, "stream": 0, "time_us": self._time_us, "compile_context": "N/A",
             "user_metadata": "", "frames": frames}
        )  # fmt: skip

    def segment(self, size: int, frames: list[dict[str, Any]]) -> int:
        address = BASE + sum(segment["total_size"] for segment in self.segments)
        self._note("segment_alloc", size, frames, addr=address)
        self.segments.append(
            {"device": 0, "address": address, "total_size": size, "allocated_size": 0, "active_size": 0,
             "requested_size": 0, "stream": 0, "segment_type": "large" if size > 2 * MIB else "small",
             "segment_pool_id": (0, 0), "is_expandable": False, "frames": frames,
             "blocks": [{"address": address, "size": size, "requested_size": 0, "state": "inactive", "frames": []}]}
        )  # fmt: skip
        return address

    def alloc(self, size: int, frames: list[dict[str, Any]]) -> int:
        rounded = -(-size // 512) * 512
        while True:
            for segment in self.segments:
                blocks = segment["blocks"]
                for place, block in enumerate(blocks):
                    if block["state"] == "inactive" and block["size"] >= rounded:
                        if block["size"] > rounded:
                            rest = {**block, "address": block["address"] + rounded, "size": block["size"] - rounded}
                            blocks.insert(place + 1, rest)
                        block |= {
                            "size": rounded,
                            "requested_size": size,
                            "state": "active_allocated",
                            "frames": frames,
                        }
                        self._live[block["address"]] = block
                        self._note("alloc", size, frames, addr=block["address"])
                        return int(block["address"])
            self.segment(2 * MIB if rounded <= MIB else max(20 * MIB, -(-rounded // (2 * MIB)) * 2 * MIB), frames)

    def free(self, address: int, frames: list[dict[str, Any]] | None = None) -> None:
        block = self._live.pop(address)
        for action in ("free_requested", "free_completed"):
            self._note(action, block["requested_size"], frames or block["frames"], addr=address)
        block |= {"state": "inactive", "requested_size": 0, "frames": []}

    def refuse(self, size: int, device_free: int, frames: list[dict[str, Any]]) -> None:
        self._note("oom", size, frames, device_free=device_free)

    def snapshot(self, *, keep: int | None = None) -> dict[str, Any]:
        """The snapshot; with `keep` only the last actions, as with max_entries."""
        for segment in self.segments:
            used = [block for block in segment["blocks"] if block["state"] == "active_allocated"]
            segment["allocated_size"] = segment["active_size"] = sum(block["size"] for block in used)
            segment["requested_size"] = sum(block["requested_size"] for block in used)
        return {
            "segments": self.segments,
            "device_traces": [self.trace if keep is None else self.trace[-keep:]],
            "allocator_settings": {
                "PYTORCH_CUDA_ALLOC_CONF": "", "max_split_size": -1, "garbage_collection_threshold": 0.0,
                "expandable_segments": False, "pinned_num_register_threads": 1, "release_lock_on_cudamalloc": False,
                "pinned_use_cuda_host_register": False, "roundup_power2_divisions": {"1": 0, "2": 0},
            },
            "external_annotations": [],
        }  # fmt: skip
