"""What identifies is taken out, what explains is left."""

from __future__ import annotations

import pytest

from gpuwatch.core.scrub import Scrubber


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("/home/anna/ComfyUI/main.py", "/home/<user>/ComfyUI/main.py"),
        (r"C:\Users\Anna Maria\ComfyUI", r"C:\Users\<user> Maria\ComfyUI"),
        ("/Users/anna/x", "/Users/<user>/x"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer <secret>"),
        ('{"api_key_comfy_org": "comfyui-123456789"}', '{"api_key_comfy_org": "<secret>"}'),
        ("HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz", "HF_TOKEN=<secret>"),
        ("using hf_abcdefghijklmnopqrstuvwxyz now", "using <secret> now"),
        ("http://anna:pw@box.example:8188/x", "http://<secret>@box.example:8188/x"),
        ("mail anna@example.org", "mail <mail>"),
        ("from 192.168.1.20:8188", "from <address>:8188"),
        ("anna on gpubox", "<user> on <host>"),
        ("hannah on gpubox2", "hannah on gpubox2"),
        ("http://127.0.0.1:8188", "http://127.0.0.1:8188"),
        ("Tried to allocate 1.56 GiB. GPU 0 has 5.79 GiB", "Tried to allocate 1.56 GiB. GPU 0 has 5.79 GiB"),
        ("torch 2.13.0+cu130 at 12.4.0.1x", "torch 2.13.0+cu130 at 12.4.0.1x"),
    ],
)
def test_words(words: str, left: str) -> None:
    scrub = Scrubber(users=["anna", "root", "x"], hosts=["gpubox"])
    assert scrub(words) == left
    assert bool(scrub.taken) == (words != left)
    assert scrub(left) == left


def test_a_value_is_scrubbed_to_its_depth() -> None:
    scrub = Scrubber(users=["anna"])
    assert scrub.value({"a": ["anna", {"anna": 3}], "n": None}) == {"a": ["<user>", {"<user>": 3}], "n": None}
    assert scrub.taken == {"user name": 2}
