"""Advice on the machine, the card, the driver and the install: as exact as the failure's own words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwatch.core.case import Surroundings
from gpuwatch.core.observations import HostSample
from gpuwatch.texts import render
from tests.core.cases import AT, GIB, KNOWN, MIB, actions, fix, gpu, incident, told


def command(
    action: str, rule: str, words: str = "words", facts: dict[str, Any] | None = None, **more: Any
) -> str | None:
    found = fix(told(incident(facts or {}, rule, words), Surroundings(**more)), action)
    return found.command if found else None


def test_a_card_is_reset_by_its_address() -> None:
    reset = "sudo nvidia-smi --gpu-reset"
    assert command("reset_gpu", "xid-reset", facts={"pci": "0000:cb:00"}) == f"{reset} -i 0000:cb:00.0"
    assert command("reset_gpu", "gsp-timeout", facts={"gpu_index": 6}) == f"{reset} -i 6"
    assert command("reset_gpu", "xid-reset", facts={"pci": "0; reboot"}) == reset
    assert command("reset_gpu", "xid-reset", facts={"gpu_index": -2011338632}) == reset


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("chrome", "Restart chrome (pid 1797828): it is the program that faulted."),
        ("python3", "Restart ComfyUI, then queue the prompt again."),
        ("pt_main_thread", "Restart ComfyUI, then queue the prompt again."),
    ],
)
def test_the_program_that_the_kernel_names_is_the_one_to_restart(name: str, title: str) -> None:
    line = f"NVRM: Xid (PCI:0000:08:00): 31, pid=1797828, name={name}, Ch 00000023, intr 00000000."
    diagnosis = told(incident({"xids": [31]}, "xid-app-fault", line))
    assert render(diagnosis.fixes[0].title) == title
    assert ("isolate_node" in actions(diagnosis)) == ("ComfyUI" in title)


@pytest.mark.parametrize(
    ("words", "card", "build"),
    [
        (
            "NVIDIA GeForce RTX 5080 with CUDA capability sm_120 is not compatible with the current PyTorch.",
            "card",
            "cu128",
        ),
        ("CUDA error: no kernel image is available", "NVIDIA GeForce RTX 5090", "cu128"),
        ("CUDA error: no kernel image is available", "NVIDIA GeForce GTX 1060 6GB", "cu126"),
        (
            "Tesla V100 with CUDA capability sm_70 is not compatible with the current PyTorch installation",
            "card",
            "cu126",
        ),
        ("CUDA error: no kernel image is available", "NVIDIA GeForce RTX 3060", None),
        (
            "Found GPU0 GeForce GTX 765M which is of cuda capability 3.0. PyTorch no longer supports this GPU",
            "card",
            None,
        ),
    ],
)
def test_the_build_that_has_kernels_for_the_card(words: str, card: str, build: str | None) -> None:
    diagnosis = told(incident({}, "no-kernel-image", words), replace(KNOWN, gpu=gpu(8, name=card)))
    found = fix(diagnosis, "install")
    assert found is not None
    assert found.params.get("build") == build
    assert (build is None) or (found.command or "").endswith(f"whl/{build}")


def test_what_a_build_is_for_is_told_beside_the_card() -> None:
    built = "The current PyTorch install supports CUDA capabilities sm_50 sm_60 sm_90."
    words = (
        "NVIDIA GeForce RTX 5080 with CUDA capability sm_120 is not compatible with the current PyTorch installation."
    )
    found = fix(told(incident({}, "no-kernel-image", words, excerpt=(words, built))), "install")
    assert found is not None
    assert (
        render(found.title) == "Install PyTorch's cu128 build: the card is sm_120, this build is for sm_50 sm_60 sm_90."
    )


def test_an_extension_with_kernels_of_its_own_is_named() -> None:
    def named(file: str) -> str | None:
        words = f"CUDA error: no kernel image is available for execution on the device (at {file}:313)"
        found = fix(told(incident({}, "no-kernel-image", words)), "install")
        return found and found.params.get("file")

    assert named(r"D:\srv\gemv_awq.cu") == "gemv_awq.cu"
    assert named("/pytorch/aten/src/ATen/native/cuda/Copy.cu") is None


@pytest.mark.parametrize(("found", "build"), [("11040", "cu118"), ("12020", "cu126"), ("10010", None), ("9", None)])
def test_the_build_that_an_old_driver_runs(found: str, build: str | None) -> None:
    words = f"The NVIDIA driver on your system is too old (found version {found}). Please update your GPU driver"
    diagnosis = told(incident({}, "driver-too-old", words))
    install = fix(diagnosis, "install")
    assert install is not None
    assert install.params.get("build") == build
    if build is not None:
        assert "CUDA 1" in render(diagnosis.fixes[0].title)


def test_a_download_that_does_not_fit_says_how_much_is_missing() -> None:
    words = (
        "UserWarning: Not enough free disk space to download the file. The expected file size is: 4265.38 MB. "
        "The target location /data/my models/hub only has 120.00 MB free disk space."
    ).replace("my models", "models")
    found = fix(told(incident({}, "disk-full", words)), "free_disk")
    assert found is not None
    assert "3.86 GiB" in render(found.title)
    assert found.command == "df -h /data/models/hub"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [("/srv/out put/a.png", "df -h '/srv/out put'"), ("C:\\out\\a.png", None), ("a$(reboot).png", "df -h .")],
)
def test_the_disk_that_is_full_is_named(path: str, wanted: str | None) -> None:
    assert command("free_disk", "disk-full", facts={"path": path}) == wanted


def test_who_was_killed_and_what_it_held() -> None:
    def words(name: str, rss: str) -> str:
        line = f"Out of memory: Killed process 4242 ({name}) total-vm:523kB, anon-rss:{rss}kB, file-rss:0kB"
        diagnosis = told(incident({"pid": 4242}, "host-oom-killed", line))
        return render(diagnosis.cause) + " " + " ".join(render(each.title) for each in diagnosis.fixes)

    ours, other = words("python3", "31,457,280"), words("java", "31457280")
    assert "python3 alone held 30.00 GiB" in ours
    assert "Restart ComfyUI" in ours
    assert "Close or limit java: it held 30.00 GiB." in other
    assert "Restart ComfyUI" not in other
    assert "?" not in words("python3", "")


def test_the_machines_memory_is_told_in_numbers() -> None:
    host = HostSample(AT, 32 * GIB, 2 * GIB, 0)
    facts = {"tried_bytes": 3597035110, "tensor_shape": [361, 1440, 2560, 3]}
    diagnosis = told(incident(facts, "host-oom"), replace(KNOWN, host=host))
    assert "while 2.00 GiB of 32.00 GiB was available" in render(diagnosis.cause)
    titles = " ".join(render(each.title) for each in diagnosis.fixes)
    assert "Fewer than 361 images or frames at a time: each takes 9.50 MiB (computed)." in titles
    assert "1.35 GiB of the machine's memory was missing" in titles
    little = told(incident({"tried_bytes": 26 * MIB}, "host-oom"))
    assert "even 26.00 MiB could not be had" in render(little.cause)


@pytest.mark.parametrize("shape", [[], [5], [1, 2, 3, 4], [2**40, 1, 1, 1], "3"])
def test_a_shape_that_tells_no_images_tells_none(shape: Any) -> None:
    diagnosis = told(incident({"tried_bytes": GIB, "tensor_shape": shape}, "host-oom"))
    assert not any("(computed)" in render(each.title) for each in diagnosis.fixes)


def test_on_a_mac_the_limit_and_the_others_are_told() -> None:
    facts = {"tried_bytes": 6 * GIB, "allocated_bytes": 39 * GIB, "other_allocations_bytes": 139 * GIB,
             "max_allowed_bytes": 180 * GIB}  # fmt: skip
    diagnosis = told(incident(facts, "mps-oom"))
    assert "other allocations 139 GiB of the 180 GiB" in render(diagnosis.cause)
    assert "beside PyTorch's hold 139 GiB" in render(diagnosis.fixes[0].title)


def test_large_numbers_are_written_out() -> None:
    line = "NVRM: Xid (PCI:0000:08:00): 31, pid=2924364, name=blender, Ch 00000023"
    assert "pid 2924364" in render(told(incident({}, "xid-app-fault", line)).fixes[0].title)


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"path": "/opt/ComfyUI/models/checkpoints/base.safetensors"}, "base.safetensors"),
        ({"path": "C:\\models\\lora.pt"}, "lora.pt"),
        ({"name": "sd/base.safetensors", "input": "ckpt_name"}, "base.safetensors"),
        ({"path": "/models/folder/"}, "folder"),
    ],
)
def test_a_file_that_is_missed_is_named(facts: dict[str, Any], name: str) -> None:
    assert render(told(incident(facts, "model-missing")).cause, "en").startswith(f"{name} is not there: ")


@pytest.mark.parametrize("facts", [{}, {"path": "///"}, {"name": 5}])
def test_a_file_that_nothing_names_is_told_in_the_rules_words(facts: dict[str, Any]) -> None:
    assert "that this server does not have" in render(told(incident(facts, "model-missing")).cause, "en")


def test_a_missing_node_is_named_in_the_first_sentence() -> None:
    cause = told(incident({"node_type": "UltimateSDUpscale"}, "comfyui-missing-node")).cause
    assert render(cause).startswith("UltimateSDUpscale is not on this server")
    assert "knows no node" in render(told(incident({}, "comfyui-missing-node")).cause), (
        "the rule's words, where none is named"
    )
