"""Many photos through one workflow: what their results are called, and what a manifest may say of them."""

from __future__ import annotations

import json

from gpuwatch.core.loop.bulk import Photo, output_names, output_paths, read_entries


def test_names_never_meet_and_never_leave_the_folder() -> None:
    made = [Photo("", name, 1, 1) for name in ("a.jpg", "A.png", "b/a.jpg", "c")]
    assert output_names(made) == {"a.jpg": "a.jpg", "A.png": "A.png", "b/a.jpg": "b/a", "c": "c"}
    assert output_paths("x", ["../../etc/passwd", "y.WEBP", "z.exe"]) == ["x.png", "x_2.webp", "x_3.png"]
    assert len({photo.upload_name for photo in made}) == 4
    assert Photo("", 'q"\r\n/ü name.jpg', 1, 1).upload_name.isascii()


def test_a_manifest_that_was_cut_off_or_is_hostile_says_no_more_than_it_can() -> None:
    told = {"input": "a", "input_bytes": 1, "input_mtime_ns": 2, "state": "done", "server": "s", "job": "j"}
    good = json.dumps({**told, "outputs": ["a.png"], "output_bytes": 3}).encode()
    lines = [good, good[:40], b"[]", b"\xff", good.replace(b"a.png", b"../a.png").replace(b'"a"', b'"b"')]
    assert set(read_entries(lines)) == {"a"}
    assert read_entries(lines)["a"].outputs == ("a.png",)
