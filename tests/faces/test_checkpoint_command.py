"""`gpuwatch checkpoint` as a person uses it, against a server on loopback that has the files of Hugging Face."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gpuwatch.adapters import downloads
from gpuwatch.adapters.checkpoints import address_of, find_checkpoint, published
from gpuwatch.core.checkpoint import PUBLISHED
from gpuwatch.errors import UsageError
from gpuwatch.faces import cli
from gpuwatch.settings import data_folder
from tests.adapters.checkpoint_samples import Payload, state_of
from tests.adapters.fileserver import Files, serving


def packed(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def tiny() -> bytes:
    return packed({"params": state_of("tiny")})


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPUWATCH_DATA_DIR", str(tmp_path / "my data"))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(downloads, "TRIES", 1)
    return tmp_path / "my data" / "checkpoints"


@pytest.fixture
def site(tiny: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    with serving(Files(tiny)) as files:
        monkeypatch.setenv("HF_ENDPOINT", files.address)
        yield files


def test_get_and_what_follows(site: Files, data: Path, tiny: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["checkpoint", "get", "paper_tiny"]) == 0
    path = data / "ddcolor_paper_tiny.pth"
    assert path.read_bytes() == tiny
    assert site.asked[0][0] == "/piddnad/DDColor-models/resolve/main/ddcolor_paper_tiny.pth"
    told = capsys.readouterr()
    digest = hashlib.sha256(tiny).hexdigest()
    assert f"SHA-256 {digest}" in told.out
    assert "Neither its authors nor the server tell a hash" in told.out
    assert find_checkpoint("paper_tiny") == str(path)

    assert cli.main(["checkpoint", "get", "paper_tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == digest
    assert len(site.asked) == 1
    assert cli.main(["checkpoint", "list", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["name"] for each in listed if each["here"]] == ["paper_tiny"]
    assert cli.main(["checkpoint", "list"]) == 0
    assert "paper_tiny" in capsys.readouterr().out


@pytest.mark.usefixtures("site")
def test_what_is_there_and_wrong_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.mkdir(parents=True)
    (data / "ddcolor_paper_tiny.pth").write_bytes(b"half")
    assert cli.main(["checkpoint", "get", "paper_tiny"]) == 2
    assert "is not the checkpoint paper_tiny" in capsys.readouterr().err
    assert cli.main(["checkpoint", "get", "paper_tiny", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compared_with"] is None


def test_another_place_and_a_mirror(site: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = hashlib.sha256(site.content).hexdigest()
    mirror = f"{site.address}/files/mine.pth"
    told = ["--mirror", mirror, "--out", str(tmp_path / "x" / "y.pth"), "--sha256", digest.upper(), "--json"]
    assert cli.main(["checkpoint", "get", "ddcolor_paper_tiny.pth", *told]) == 0
    assert json.loads(capsys.readouterr().out)["compared_with"] == "given"
    assert site.asked[-1][0] == "/files/mine.pth"
    assert (tmp_path / "x" / "y.pth").is_file()
    assert cli.main(["checkpoint", "get", "paper_tiny", "--mirror", site.address, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "ddcolor_paper_tiny.pth").is_file()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"params": state_of("large")}, "not DDColor's tiny network: torch (zip), DDColor large"),
        (
            {"params": state_of("tiny"), "x": Payload(Path("/nowhere/was-run"))},
            "carries code besides weights (posix.mkdir)",
        ),
        ({"other": torch.zeros(1)}, "not DDColor's tiny network"),
    ],
)
def test_another_file_is_not_kept(
    content: object, words: str, site: Files, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.content = packed(content)
    assert cli.main(["checkpoint", "get", "paper_tiny"]) == 4
    assert words in capsys.readouterr().err
    assert list(data.iterdir()) == []


def test_a_refusal_tells_the_way_by_hand(site: Files, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.statuses = [404]
    assert cli.main(["checkpoint", "get", "paper"]) == 3
    told = capsys.readouterr().err
    url = f"{site.address}/piddnad/DDColor-models/resolve/main/ddcolor_paper.pth"
    assert f"{url} cannot be downloaded: HTTP 404" in told
    assert f"download {url} in a browser, save it as {data / 'ddcolor_paper.pth'}" in told
    assert f"`gpuwatch checkpoint inspect {shlex.quote(str(data / 'ddcolor_paper.pth'))}`" in told
    site.statuses = [404]
    assert cli.main(["checkpoint", "get", "paper", "--lang", "zh"]) == 3
    assert "浏览器" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["get", "huge"], "paper_tiny, modelscope, artistic, paper"),
        (["get", "paper", "--from", "modelscope"], "it has modelscope"),
        (["get", "paper", "--mirror", "ftp://x/y.pth"], "no address of a file"),
        (["get", "paper", "--mirror", "x"], "no address of a file"),
        (["get", "paper", "--sha256", "12"], "64 hexadecimal digits"),
        (["get", "paper", "--from", "elsewhere"], "huggingface"),
        (["inspect", "none.pth"], "cannot be read"),
        (["inspect"], "FILE"),
        ([], "ACTION"),
    ],
)
def test_wrong_use(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["checkpoint", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_addresses() -> None:
    wanted = published("modelscope")
    assert address_of(wanted, "huggingface", environment={}).url.startswith("https://huggingface.co/piddnad/")
    ours = address_of(wanted, "huggingface", environment={"HF_ENDPOINT": "https://hf-mirror.com/"})
    assert ours.url == "https://hf-mirror.com/piddnad/DDColor-models/resolve/main/ddcolor_modelscope.pth"
    assert address_of(wanted, "modelscope", environment={"HF_ENDPOINT": "https://hf-mirror.com"}).url == (
        "https://modelscope.cn/models/damo/cv_ddcolor_image-colorization/resolve/master/pytorch_model.pt"
    )
    assert address_of(wanted, "huggingface", "http://box/mine.pth", environment={}).plain_http
    assert not ours.plain_http


def test_a_name_that_is_not_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the checkpoint paper_tiny is not there"):
        find_checkpoint("paper_tiny")
    assert cli.main(["run", "ddcolor", str(tmp_path / "x.png"), "--checkpoint", "paper_tiny"]) == 2
    assert "`gpuwatch checkpoint get paper_tiny` downloads it." in capsys.readouterr().err
    assert find_checkpoint("mine.pth") == "mine.pth"


def test_a_file_of_a_published_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paper").touch()
    assert find_checkpoint("paper") == "paper"


def test_inspect(tiny: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(tiny)
    assert cli.main(["checkpoint", "inspect", str(path)]) == 0
    assert "is DDColor, the tiny network, complete" in capsys.readouterr().out
    assert cli.main(["checkpoint", "inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["network"], found["variant"], found["complete"], found["usable"]) == ("DDColor", "tiny", True, True)
    assert found["sha256"] == hashlib.sha256(tiny).hexdigest()

    path.write_bytes(packed({"params": state_of("tiny"), "x": Payload(tmp_path / "was-run")}))
    assert cli.main(["checkpoint", "inspect", str(path)]) == 1
    assert "names posix.mkdir, which can run commands" in capsys.readouterr().out
    path.write_bytes(packed(torch.nn.Linear(1, 1)))
    assert cli.main(["checkpoint", "inspect", str(path)]) == 1
    assert "holds more than weights" in capsys.readouterr().out
    path.write_bytes(tiny[:1000])
    assert cli.main(["checkpoint", "inspect", str(path)]) == 1
    assert "is damaged" in capsys.readouterr().out
    assert not (tmp_path / "was-run").exists()


def test_a_name_full_of_signs_obeys_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a\x1b[31m.pth"
    path.write_bytes(b"cx\x1b[2J\ny\n.")
    assert cli.main(["checkpoint", "inspect", str(path)]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_published_names() -> None:
    assert list(PUBLISHED) == ["paper_tiny", "modelscope", "artistic", "paper"]


def test_where_large_files_are_kept(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert data_folder({}, home) == home / ".local" / "share" / "gpuwatch"
    assert data_folder({"XDG_DATA_HOME": "/data"}, home) == Path("/data/gpuwatch")
    assert data_folder({"XDG_DATA_HOME": "not/absolute"}, home) == home / ".local" / "share" / "gpuwatch"
    assert data_folder({"GPUWATCH_DATA_DIR": "here", "XDG_DATA_HOME": "/data"}, home) == Path("here")
