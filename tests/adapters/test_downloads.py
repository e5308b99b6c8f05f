"""Downloads from a real server on loopback: cut, resumed, redirected, refused, and never half in place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters import downloads, part_file, range_request
from gpuwatch.adapters.downloads import Fetched, download
from gpuwatch.adapters.range_request import check_address
from gpuwatch.errors import GpuwatchError, JobError, UnreachableError, UsageError
from gpuwatch.texts import plain
from tests.adapters.fileserver import Files, serving

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def files() -> Iterator[Files]:
    with serving(Files(CONTENT)) as server:
        yield server


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "there" / "model.pth"


def get(files: Files, to: Path, path: str = "/model.pth", **more: Any) -> Fetched:
    return download(files.address + path, to, wait=lambda _seconds: None, **more)


def leftovers(to: Path) -> list[str]:
    return sorted(path.name for path in to.parent.iterdir()) if to.parent.exists() else []


def test_a_file_comes_whole(files: Files, to: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    fetched = get(files, to, on_progress=lambda have, total: seen.append((have, total)))
    assert to.read_bytes() == CONTENT
    assert fetched == Fetched(to, len(CONTENT), SHA256, None, 0)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert leftovers(to) == ["model.pth"]


def test_cut_connections_are_taken_up_where_they_ended(files: Files, to: Path) -> None:
    files.cut_after = [1000, 0, 50_000]
    get(files, to)
    assert to.read_bytes() == CONTENT
    assert [asked for _, asked, _ in files.asked] == [None, "bytes=1000-", "bytes=1000-", "bytes=51000-"]
    assert {condition for _, _, condition in files.asked[1:]} == {'"one"'}


def test_a_later_start_goes_on(files: Files, to: Path) -> None:
    files.cut_after = [100_000] + [0] * downloads.TRIES
    with pytest.raises(UnreachableError, match="ended early"):
        get(files, to)
    assert leftovers(to) == ["model.pth.part", "model.pth.part.json"]
    fetched = get(files, to)
    assert to.read_bytes() == CONTENT
    assert fetched.resumed_bytes == 100_000
    assert fetched.sha256 == SHA256
    assert leftovers(to) == ["model.pth"]


def test_what_is_there_whole_is_not_asked_for_again(files: Files, to: Path) -> None:
    to.parent.mkdir()
    part = to.with_name("model.pth.part")
    part.write_bytes(CONTENT)
    url = files.address + "/model.pth"
    note = {"url": url, "validator": '"one"', "total_bytes": len(CONTENT), "sha256": None}
    part.with_name("model.pth.part.json").write_text(json.dumps(note))
    assert get(files, to).resumed_bytes == len(CONTENT)
    assert to.read_bytes() == CONTENT
    assert len(files.asked) == 1


@pytest.mark.parametrize("change", ["version", "address", "note", "no ranges"])
def test_another_version_begins_anew(change: str, files: Files, to: Path) -> None:
    files.cut_after = [100_000] + [0] * downloads.TRIES
    with pytest.raises(UnreachableError):
        get(files, to)
    path = "/model.pth"
    match change:
        case "version":
            files.content, files.etag = CONTENT[::-1], '"two"'
        case "address":
            path = "/other.pth"
        case "note":
            to.with_name("model.pth.part.json").write_text("[1")
        case _:
            files.ranges = False
    get(files, to, path)
    assert to.read_bytes() == files.content


def test_without_a_version_nothing_is_continued(files: Files, to: Path) -> None:
    files.etag = None
    files.cut_after = [1000]
    get(files, to)
    assert [asked for _, asked, _ in files.asked] == [None, None]
    assert to.read_bytes() == CONTENT


def test_a_wrong_hash_leaves_nothing(files: Files, to: Path) -> None:
    with pytest.raises(JobError, match=f"{SHA256}, not {'0' * 64}; it was deleted"):
        get(files, to, sha256="0" * 64)
    assert leftovers(to) == []
    assert get(files, to, sha256=SHA256).sha256 == SHA256


def test_the_hash_and_size_told_in_a_redirect_are_compared(files: Files, to: Path) -> None:
    files.redirect = {"/model.pth": "/store"}
    files.redirect_headers = {"X-Linked-Etag": f'"{SHA256}"', "X-Linked-Size": str(len(CONTENT))}
    assert get(files, to).told_sha256 == SHA256
    files.redirect_headers["X-Linked-Etag"] = f'"{"1" * 64}"'
    to.unlink()
    with pytest.raises(JobError, match="not 1111"):
        get(files, to)
    assert leftovers(to) == []
    files.redirect_headers = {"X-Linked-Size": "7"}
    with pytest.raises(UnreachableError, match="told as 7, and then as"):
        get(files, to)


def test_a_redirect_keeps_the_range(files: Files, to: Path) -> None:
    files.redirect = {"/model.pth": "/store"}
    files.cut_after = [5000]
    get(files, to)
    assert to.read_bytes() == CONTENT
    assert [asked for path, asked, _ in files.asked if path == "/store"] == [None, "bytes=5000-"]


def test_redirects_end(files: Files, to: Path) -> None:
    files.redirect = {f"/{step}": f"/{step + 1}" for step in range(20)}
    with pytest.raises(UnreachableError, match="HTTP 302"):
        get(files, to, "/0")
    assert len(files.asked) == range_request.MOST_REDIRECTS + 1
    files.redirect = {"/model.pth": "/model.pth"}
    with pytest.raises(UnreachableError, match="HTTP 302"):
        get(files, to)


@pytest.mark.parametrize("target", ["http://example.com/x", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_elsewhere_is_refused(target: str, files: Files, to: Path) -> None:
    files.redirect = {"/model.pth": target}
    with pytest.raises(GpuwatchError):
        get(files, to)
    assert leftovers(to) == []


def test_a_redirect_never_leaves_encryption_or_looks_inside() -> None:
    told = range_request.Told()
    redirects = range_request.Redirects(told, plain_http=True)
    request = urllib.request.Request("https://example.com/a")
    for target, words in (("http://example.org/b", "not encrypted"), ("http://127.0.0.1:1/b", "own")):
        with pytest.raises(UsageError, match=words):
            redirects.redirect_request(request, None, 302, "Found", {}, target)


@pytest.mark.parametrize("status", [401, 403, 404, 451])
def test_a_refusal_is_told_at_once(status: int, files: Files, to: Path) -> None:
    files.statuses = [status] * 5
    with pytest.raises(UnreachableError, match=f"HTTP {status}"):
        get(files, to)
    assert len(files.asked) == 1
    assert leftovers(to) == []


def test_a_busy_server_is_asked_again(files: Files, to: Path) -> None:
    waited: list[float] = []
    files.statuses = [503]
    download(files.address + "/model.pth", to, wait=waited.append)
    assert to.read_bytes() == CONTENT
    assert waited == [2.0]


@pytest.mark.parametrize(
    "told", [{"Content-Type": "text/html; charset=utf-8"}, {"Content-Type": "application/octet-stream"}]
)
def test_a_page_is_no_file(told: dict[str, str], files: Files, to: Path) -> None:
    files.content, files.headers = b"\n<!DOCTYPE html><title>Sign in</title>", told
    with pytest.raises(UnreachableError, match="answers with a page"):
        get(files, to)
    assert leftovers(to) == []


def test_a_pointer_is_no_file(files: Files, to: Path) -> None:
    files.content = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    with pytest.raises(UnreachableError, match="not with the file"):
        get(files, to)


def test_a_full_disk_is_seen_before(files: Files, to: Path) -> None:
    with pytest.raises(JobError, match=r"has 1\.00 MiB free, and 65\.00 MiB are needed"):
        get(files, to, free_bytes=lambda _folder: 1 << 20)
    assert leftovers(to) == []


def test_a_disk_that_fills_half_way(files: Files, to: Path) -> None:
    to.parent.mkdir()
    to.with_name("model.pth.part").symlink_to("/dev/full")
    with pytest.raises(JobError, match="The disk is full") as full:
        get(files, to)
    assert isinstance(full.value.__cause__, OSError)
    assert full.value.__cause__.errno == errno.ENOSPC
    assert not to.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(files: Files, to: Path) -> None:
    to.parent.mkdir(mode=0o500)
    with pytest.raises(UsageError, match="cannot be written"):
        get(files, to)


def test_a_folder_that_is_a_file(files: Files, to: Path) -> None:
    to.parent.write_text("no folder")
    with pytest.raises(UsageError, match="cannot be written"):
        get(files, to)


def test_what_the_judge_refuses_is_deleted(files: Files, to: Path) -> None:
    seen: list[bytes] = []

    def judge(path: Path) -> GpuwatchError:
        seen.append(path.read_bytes())
        return JobError(plain("not this one"))

    with pytest.raises(JobError, match="not this one"):
        get(files, to, judge=judge)
    assert seen == [CONTENT]
    assert leftovers(to) == []


def test_an_old_file_stays_until_the_new_one_is_whole(files: Files, to: Path) -> None:
    to.parent.mkdir()
    to.write_bytes(b"old")
    files.cut_after = [1000] + [0] * downloads.TRIES
    with pytest.raises(UnreachableError):
        get(files, to)
    assert to.read_bytes() == b"old"
    get(files, to)
    assert to.read_bytes() == CONTENT


def test_two_at_once(files: Files, to: Path) -> None:
    def again(_have: int, _total: int | None) -> None:
        with pytest.raises(UsageError, match="being downloaded by another process"):
            get(files, to)

    get(files, to, on_progress=again)
    assert to.read_bytes() == CONTENT


def test_a_server_that_tells_too_much(files: Files, to: Path) -> None:
    files.told_bytes = part_file.MOST_BYTES + 1
    with pytest.raises(JobError, match="which no checkpoint has"):
        get(files, to)


def test_nobody_there(to: Path) -> None:
    with serving(Files(CONTENT)) as files:
        gone = files.address
    with pytest.raises(UnreachableError, match="refused"):
        download(f"{gone}/model.pth", to, wait=lambda _seconds: None)
    assert leftovers(to) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/x", "not encrypted"),
        ("ftp://example.com/x", "no address of a file"),
        ("file:///etc/passwd", "no address of a file"),
        ("https://", "no address of a file"),
        ("https://example.com/a b", "no address of a file"),
        ("https://example.com/\r\nHost: x", "no address of a file"),
        ("https://user:secret@example.com/x", "password"),
        ("https://[::1/x", "is no address"),
        ("https://example.com:99999/x", "is no address"),
        ("model.pth", "no address of a file"),
        ("https://例子.com/x", "no address of a file"),
        (f"https://{'a' * 64}.com/x", "is no address"),
        ("https://a..b/x", "is no address"),
    ],
)
def test_addresses_that_are_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_address(url)


def test_addresses_that_are_taken() -> None:
    for url in ("https://example.com/x", "http://127.0.0.1:8/x", "http://localhost/x", "http://[::1]/x"):
        check_address(url)
    check_address("http://example.com/x", plain_http=True)
