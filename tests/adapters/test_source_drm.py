"""AMD and Intel GPUs out of the kernel's files; no such card was at hand, so the tree here is made up.

Names, units and forms are those of the kernel's documentation: amdgpu's pages, `sysfs-driver-intel-i915-hwmon`,
`sysfs-driver-intel-xe-hwmon`, `sysfs-bus-pci`, `sysfs-devices-power`.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import psutil
import pytest

from gpuwatch.adapters.sources.drm import DrmSource, cards_in, computes_here, number_of
from gpuwatch.adapters.sources.drm_clients import Clients
from gpuwatch.core.observations import GpuProcess, GpuSample, SourceDown
from tests.adapters.watching import Watched

AMD = {
    "device/vendor": "0x1002",
    "device/device": "0x73bf",
    "device/uevent": "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_SLOT_NAME=0000:03:00.0",
    "device/unique_id": "8e1f6c2a5b90d3f7",
    "device/product_name": "Navi 21 [Radeon RX 6900 XT]",
    "device/power/runtime_status": "active",
    "device/mem_info_vram_total": "17163091968",
    "device/mem_info_vram_used": "2013265920",
    "device/gpu_busy_percent": "37",
    "device/current_link_speed": "8.0 GT/s PCIe",
    "device/current_link_width": "16",
    "device/max_link_speed": "16.0 GT/s PCIe",
    "device/max_link_width": "16",
    "device/ras/umc_err_count": "ue: 0\nce: 3",
    "device/hwmon/hwmon4/name": "amdgpu",
    "device/hwmon/hwmon4/temp1_input": "61000",
    "device/hwmon/hwmon4/power1_average": "121000000",
    "device/hwmon/hwmon4/power1_cap": "255000000",
    "device/hwmon/hwmon4/freq1_input": "2400000000",
    "device/hwmon/hwmon4/freq2_input": "1000000000",
    "device/hwmon/hwmon4/pwm1": "102",
}
XE = {
    "device/vendor": "0x8086",
    "device/device": "0xe20b",
    "device/uevent": "DRIVER=xe\nPCI_SLOT_NAME=0000:04:00.0",
    "device/tile0/gt0/freq0/act_freq": "2850",
    "device/hwmon/hwmon5/temp2_input": "54000",
    "device/hwmon/hwmon5/energy1_input": "5000000",
    "device/hwmon/hwmon5/power1_max": "190000000",
}
I915 = {
    "gt_act_freq_mhz": "2050",
    "device/vendor": "0x8086",
    "device/device": "0x56a0",
    "device/uevent": "DRIVER=i915\nPCI_SLOT_NAME=0000:05:00.0",
    "device/hwmon/hwmon6/energy1_input": "7000000",
    "device/hwmon/hwmon6/power1_max": "0",
}
NVIDIA = {"device/vendor": "0x10de", "device/hwmon/hwmon1/temp1_input": "50000"}
GRAPHICS_OF_A_PROCESSOR = {"device/vendor": "0x8086", "device/device": "0x9a49", "gt_act_freq_mhz": "300"}


def card(folder: Path, number: int, files: dict[str, str]) -> Path:
    for name, words in files.items():
        file = folder / f"card{number}" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(words + "\n")
    return folder / f"card{number}"


def samples(folder: Path, count: int = 1) -> list[GpuSample]:
    told: list[GpuSample] = []

    def take(each: object) -> bool:
        assert isinstance(each, GpuSample)
        told.append(each)
        return len(told) < count

    DrmSource(0.001, folder=folder, clients=Clients(folder / "proc")).run(take, threading.Event())
    return told


def client(folder: Path, pid: int, number: int, words: str, device: str = "/dev/dri/renderD128") -> None:
    """One open file of a process, and what the kernel says beside it."""
    place = folder / "proc" / str(pid)
    for name in ("fd", "fdinfo"):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / "fd" / str(number)).symlink_to(device)
    (place / "fdinfo" / str(number)).write_text(f"pos:\t0\nflags:\t02100002\n{words}")


def told_of(card_at: str, client_id: int, *memory: str) -> str:
    return "\n".join(["drm-driver:\tamdgpu", f"drm-pdev:\t{card_at}", f"drm-client-id:\t{client_id}", *memory]) + "\n"


def test_processes_are_told_with_what_they_hold_on_each_card(tmp_path: Path) -> None:
    amd, xe = "0000:03:00.0", "0000:04:00.0"
    card(tmp_path, 0, AMD)
    card(tmp_path, 1, XE)
    own = os.getpid()
    client(tmp_path, own, 3, told_of(amd, 7, "drm-memory-vram:\t1024 KiB", "drm-memory-gtt:\t9999 KiB"))
    client(tmp_path, own, 4, told_of(amd, 7, "drm-memory-vram:\t1024 KiB"))  # the same client, open twice
    client(tmp_path, own, 5, told_of(amd, 8, "drm-total-vram:\t9 MiB", "drm-resident-vram:\t2 MiB"))
    client(tmp_path, own, 6, "drm-engine-gfx:\t5 ns\n", "/dev/null")
    client(tmp_path, 4_190_000, 3, told_of(xe, 1, "drm-resident-vram0:\t512", "drm-resident-vram1:\t1 KiB"))
    client(tmp_path, 4_190_001, 3, told_of(xe, 2, "drm-resident-system:\t512 KiB"))
    client(tmp_path, 4_190_002, 3, "garbage\0" * 10_000)
    first, second = samples(tmp_path, 2)
    assert first.processes == (GpuProcess(own, psutil.Process().name(), (1 << 20) + (2 << 20)),)
    assert second.processes == (GpuProcess(4_190_000, None, 512 + 1024),)


def test_one_that_opens_a_card_later_is_found_and_one_that_closes_it_is_gone(tmp_path: Path) -> None:
    proc = Clients(tmp_path / "proc")
    assert proc.held() == {}
    client(tmp_path, 41, 3, told_of("a", 1, "drm-memory-vram:\t1 KiB"))
    assert proc.held() == {}, "it is looked for every ten seconds"
    proc = Clients(tmp_path / "proc")
    assert proc.held() == {"a": {41: 1024}}
    (tmp_path / "proc" / "41" / "fd" / "3").unlink()
    assert proc.held() == {}


def test_an_amd_card_is_told_in_base_units(tmp_path: Path) -> None:
    card(tmp_path, 1, AMD)
    (sample,) = samples(tmp_path)
    assert sample == GpuSample(
        at=sample.at,
        uuid="GPU-8e1f6c2a5b90d3f7",
        index=1,
        name="Navi 21 [Radeon RX 6900 XT]",
        driver="amdgpu",
        vendor="amd",
        total_bytes=17163091968,
        used_bytes=2013265920,
        utilization_ratio=0.37,
        temperature_celsius=61.0,
        power_watts=121.0,
        power_limit_watts=255.0,
        sm_clock_hertz=2_400_000_000,
        memory_clock_hertz=1_000_000_000,
        fan_ratio=0.4,
        ecc_corrected=3,
        ecc_uncorrected=0,
        pcie_link_generation=3,
        pcie_link_width=16,
        pcie_most_generation=4,
        pcie_most_width=16,
    )
    assert sample.took_seconds is not None


def test_intel_cards_tell_what_their_drivers_do(tmp_path: Path) -> None:
    card(tmp_path, 0, XE)
    card(tmp_path, 2, I915)
    xe, i915 = samples(tmp_path, 2)
    assert (xe.uuid, xe.name, xe.driver, xe.vendor) == ("PCI-0000:04:00.0", "Intel GPU 0xe20b", "xe", "intel")
    assert (xe.temperature_celsius, xe.energy_joules, xe.power_limit_watts) == (54.0, 5.0, 190.0)
    assert (xe.sm_clock_hertz, i915.sm_clock_hertz) == (2_850_000_000, 2_050_000_000)
    assert i915.power_limit_watts is None, "0 is a limit that is switched off"
    assert (xe.total_bytes, xe.used_bytes, xe.utilization_ratio, xe.ecc_corrected) == (None, None, None, None)


def test_power_is_computed_where_only_energy_is_told(tmp_path: Path) -> None:
    energy = card(tmp_path, 0, XE) / "device/hwmon/hwmon5/energy1_input"
    with Watched(DrmSource(0.001, folder=tmp_path)) as watched:
        watched.until(lambda: bool(watched.observations))
        energy.write_text("9000000\n")
        watched.until(lambda: watched.observations[-1].power_watts not in (None, 0.0))  # type: ignore[union-attr]
        energy.write_text("100\n")  # the counter began anew
        watched.until(lambda: watched.observations[-1].energy_joules == 0.0001)  # type: ignore[union-attr]
    told = [each.power_watts for each in watched.observations if isinstance(each, GpuSample)]
    assert told[0] is None
    assert all(watts is None or watts >= 0 for watts in told)


@pytest.mark.parametrize("name", [name for name in AMD if name.count("/") >= 1 and "vendor" not in name])
def test_a_file_that_is_missing_or_garbage_takes_no_other_with_it(tmp_path: Path, name: str) -> None:
    full = samples(card(tmp_path / "a", 0, AMD).parent)[0]
    for number, words in enumerate(["", "garbage", "-5", "９", "1" * 30]):
        broken = samples(card(tmp_path / str(number), 0, {**AMD, name: words}).parent)[0]
        gone = shutil.copytree(tmp_path / "a", tmp_path / f"gone{number}")
        (gone / "card0" / name).unlink()
        missing = samples(gone)[0]
        for partial in (broken, missing):
            changed = {field for field in GpuSample.__slots__ if getattr(partial, field) != getattr(full, field)}
            assert len(changed - {"at", "took_seconds"}) <= 2
            assert all(
                getattr(partial, field) is None for field in changed - {"at", "took_seconds", "uuid", "name", "driver"}
            )


def test_a_card_that_sleeps_is_let_sleep(tmp_path: Path) -> None:
    card(tmp_path, 0, {**AMD, "device/power/runtime_status": "suspended"})
    (sample,) = samples(tmp_path)
    assert (sample.name, sample.used_bytes, sample.temperature_celsius) == (AMD["device/product_name"], None, None)


def test_other_vendors_and_a_processors_graphics_are_left_alone(tmp_path: Path) -> None:
    card(tmp_path, 0, NVIDIA)
    card(tmp_path, 1, GRAPHICS_OF_A_PROCESSOR)
    (tmp_path / "card2-DP-1").mkdir()
    (tmp_path / "renderD128").mkdir()
    assert cards_in(tmp_path) == []
    assert cards_in(tmp_path / "missing") == []
    assert "no AMD or Intel GPU" in str(DrmSource(folder=tmp_path).run(lambda _: True, threading.Event()))


def test_a_processors_graphics_is_no_card_beside_one_that_computes(tmp_path: Path) -> None:
    drm, pci = tmp_path / "drm", tmp_path / "pci"
    own = {**AMD, "device/mem_info_vram_total": str(512 << 20), "device/unique_id": "", "device/product_name": ""}
    card(drm, 0, own)
    assert [each.index for each in cards_in(drm)] == [0], "the only one there is"
    card(drm, 1, AMD)
    assert [each.index for each in cards_in(drm)] == [1]
    assert computes_here(drm, pci)
    for number, (vendor, kind) in enumerate([("0x1002", "0x030000"), ("0x10de", "0x040300")]):
        place = pci / str(number)
        place.mkdir(parents=True)
        (place / "vendor").write_text(vendor + "\n")
        (place / "class").write_text(kind + "\n")
    assert computes_here(drm, pci), "what NVIDIA has here is a sound device"
    (pci / "1" / "class").write_text("0x030200\n")
    assert not computes_here(drm, pci)
    assert not computes_here(tmp_path / "missing", tmp_path / "missing")


def test_one_card_that_goes_does_not_end_the_other(tmp_path: Path) -> None:
    first = card(tmp_path, 0, AMD)
    card(tmp_path, 1, XE)
    with Watched(DrmSource(0.001, folder=tmp_path)) as watched:
        watched.until(lambda: len(watched.observations) >= 2)
        first.rename(tmp_path / "gone")
        watched.until(lambda: any(isinstance(each, SourceDown) for each in watched.observations))
        place = next(n for n, each in enumerate(watched.observations) if isinstance(each, SourceDown))
        watched.until(lambda: len(watched.observations) > place + 3)
    down = watched.observations[place]
    assert isinstance(down, SourceDown)
    assert (down.source, down.failed) == ("drm 0", True)
    assert {each.index for each in watched.observations[place + 1 :] if isinstance(each, GpuSample)} == {1}


def test_a_hundred_cards_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (100, 2, 10):
        card(tmp_path, number, AMD)
    assert [each.index for each in cards_in(tmp_path)] == [2, 10, 100]


def test_a_folder_or_an_endless_file_is_no_number(tmp_path: Path) -> None:
    assert number_of(tmp_path) is None
    assert number_of(Path("/dev/zero")) is None
