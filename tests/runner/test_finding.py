"""What a command line's paths come to: trees, links, hidden files, outputs, and what cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuwatch_runner.finding import find_images


def plant(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, *paths: Path, out: Path | None = None) -> list[tuple[str, str]]:
    sources = find_images(paths or (folder,), out).sources
    return [(source.path.relative_to(folder).as_posix(), source.inside.as_posix()) for source in sources]


def test_a_tree_is_searched_to_the_bottom_in_one_order(tmp_path: Path) -> None:
    plant(tmp_path, "b.JPG", "a.png", "notes.txt", "z/y/x.tif", "z/a.webp", "c/1.heic", ".hidden.png", ".cache/t.jpg")
    assert found(tmp_path) == [
        ("a.png", "."), ("b.JPG", "."), ("c/1.heic", "c"), ("z/a.webp", "z"), ("z/y/x.tif", "z/y"),
    ]  # fmt: skip


def test_links_that_go_round_are_followed_once_and_from_their_own_place_first(tmp_path: Path) -> None:
    plant(tmp_path, "top/m/photo.jpg", "elsewhere/other.jpg")
    top = tmp_path / "top"
    (top / "a-link").symlink_to(top / "m")
    (top / "m" / "up").symlink_to(top)
    (top / "far").symlink_to(tmp_path / "elsewhere")
    assert found(top) == [("far/other.jpg", "far"), ("m/photo.jpg", "m")]


def test_outputs_and_their_folder_are_passed_over(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "a-colorized.png", "a-colorized-2.jpg", "re-colorized-scan.png", "out/b.png", "out/c.jpg")
    assert [name for name, _ in found(tmp_path, out=tmp_path / "out")] == ["a.png", "re-colorized-scan.png"]
    assert find_images([tmp_path], tmp_path / "out").outputs == 2
    # Beside the photos themselves, only names tell the outputs.
    assert ("out/b.png", "out") in found(tmp_path, out=tmp_path)


def test_a_photo_named_twice_is_one_and_keeps_its_first_place(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b/c.png")
    assert found(tmp_path, tmp_path / "b" / "c.png", tmp_path) == [("b/c.png", "."), ("a.png", ".")]


def test_what_cannot_be_used_is_a_line_each(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "broken.jpg").symlink_to("gone")
    result = find_images([tmp_path, tmp_path / "nothing", tmp_path / "gone.jpg"])
    assert [source.path.name for source in result.sources] == ["a.png", "broken.jpg"]  # reading will say what is wrong
    assert [str(error) for _, error in result.failed] == [
        f"{tmp_path / 'nothing'} has no images",
        f"{tmp_path / 'gone.jpg'} does not exist",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "shut/b.png")
    (tmp_path / "shut").chmod(0)
    try:
        result = find_images([tmp_path])
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert [source.path.name for source in result.sources] == ["a.png"]
    assert "shut cannot be read" in str(result.failed[0][1])
