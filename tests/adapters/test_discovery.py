"""What is found on this machine, how addresses are read, and what the kernel's records become."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwatch.adapters.comfyui.address import read_headers, read_token, server_of
from gpuwatch.adapters.discovery import answering, log_files, running_of, surroundings_of
from gpuwatch.adapters.sources import open_source
from gpuwatch.adapters.sources.kernel import kernel_line
from gpuwatch.errors import UsageError
from tests.standin.server import standing


def test_only_a_port_with_a_comfyui_is_found() -> None:
    with standing() as one, standing() as other:
        other.hazards.html = True
        assert answering([one.port, other.port, 9]) == {one.port: "0.24.0"}


def test_a_process_is_known_by_its_folder_and_its_log_by_its_port(tmp_path: Path) -> None:
    words = ["python", "main.py", "--port", "8200"]
    assert running_of(1, words, tmp_path, Path("main.py")) is None
    (tmp_path / "comfy").mkdir()
    (tmp_path / "nodes.py").touch()
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "comfyui.log").touch()
    running = running_of(1, words, tmp_path, Path("main.py"))
    assert running is not None
    assert [path.name for path in log_files(running)] == ["comfyui.log"]
    (tmp_path / "user" / "comfyui_8200.log").touch()
    assert [path.name for path in log_files(running)] == ["comfyui_8200.log"]


@pytest.mark.parametrize("port", ["\u00b2", "0", "65536", "99999999", "-1", "http", ""])
def test_a_port_that_none_can_be_means_comfyuis_own(port: str, tmp_path: Path) -> None:
    (tmp_path / "comfy").mkdir()
    (tmp_path / "nodes.py").touch()
    running = running_of(1, ["python", "main.py", "--port", port], tmp_path, Path("main.py"))
    assert running is not None
    assert running.port == 8188


def test_what_a_process_here_may_see_is_read_from_it_and_nothing_of_another_machines(tmp_path: Path) -> None:
    (tmp_path / "comfy").mkdir()
    (tmp_path / "nodes.py").touch()
    (tmp_path / "main.py").write_text("print('up', flush=True)\ninput()\n")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "2,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "SECRET": "sesame"}
    words = [sys.executable, "main.py", "--port", "8251"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        found = surroundings_of(server_of("http://127.0.0.1:8251"))
        process.communicate("\n")
    assert found == {"local": True, "visible_devices": "2,1", "by_bus": True}
    assert surroundings_of(server_of("http://127.0.0.1:8252")) == {"local": True}
    assert surroundings_of(server_of("http://192.0.2.7:8188")) == {"local": False}


@pytest.mark.parametrize(
    ("spec", "name", "url"),
    [
        ("http://127.0.0.1:8188", "127.0.0.1:8188", "http://127.0.0.1:8188"),
        ("https://u:p%40w@box/comfy/", "box:443/comfy", "https://box:443/comfy"),
        ("main=HTTP://[::1]:8188", "main", "http://[::1]:8188"),
    ],
)
def test_an_address(spec: str, name: str, url: str) -> None:
    server = server_of(spec)
    assert (server.name, server.url) == (name, url)
    assert "p%40w" not in repr(server)
    assert "p@w" not in repr(server)


@pytest.mark.parametrize(
    "spec",
    ["http://", "http://u:secret@h:0", "http://u:secret@h:99999", "ftp://u:secret@h", "http://u:secret@h/?x",
     "http://u:secret@h /", "journal:", "docker:-x", "journal:a b"],
)  # fmt: skip
def test_a_bad_word_is_refused_without_its_secret(spec: str) -> None:
    with pytest.raises(UsageError) as error:
        open_source(spec, from_start=False, show_history=False)
    assert "secret" not in str(error.value)


def test_headers_and_tokens_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "h"
    file.write_text("# who we are\nX-User: me\n\nAuthorization: Basic abc\n")
    assert read_headers(file) == {"X-User": "me", "Authorization": "Basic abc"}
    file.write_text("X-User: me\nno header\n")
    with pytest.raises(UsageError, match=":2: is no header"):
        read_headers(file)
    file.write_text(" tok \n")
    assert read_token(file) == {"Authorization": "Bearer tok"}
    with pytest.raises(UsageError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_a_kernel_record_reads_as_dmesg_prints_it() -> None:
    record = b"4,1234,987654321,-;NVRM: Xid (PCI:0000:01:00): 31, pid=77\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n"
    assert kernel_line(record) == b"[  987.654321] NVRM: Xid (PCI:0000:01:00): 31, pid=77\n"
    assert kernel_line(b"odd") == b""
