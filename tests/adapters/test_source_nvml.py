"""What the driver does not say is None; a machine without one is an ordinary machine.

The driver here is made up: its answers are those of a GeForce RTX 3060 Ti and of the errors in NVML's documentation. The
error classes and numbers are the library's own.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import psutil
import pynvml
import pytest

from gpuwatch.adapters.sources.nvml import NvmlSource
from gpuwatch.adapters.sources.programs import program_of
from gpuwatch.core.observations import GpuProcess, GpuSample, SourceDown, ThrottleReason
from gpuwatch.errors import GpuwatchError
from tests.adapters.watching import Watched

NOBODYS_PID = 4_190_000


class Driver:
    """A stand-in for the library: one dictionary of answers; an answer that is an error number is raised."""

    def __init__(self, gpus: int = 1, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlDeviceGetCount": gpus,
            "nvmlSystemGetDriverVersion": "580.95.05",
            "nvmlSystemGetProcessName": pynvml.NVML_ERROR_NOT_FOUND,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda handle: f"GPU-0000-{handle}",
            "nvmlDeviceGetName": "NVIDIA GeForce RTX 3060 Ti",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=8589934592, free=6576668672, used=2013265920),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37, memory=12),
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPowerUsage": 121_500,
            "nvmlDeviceGetEnforcedPowerLimit": 200_000,
            "nvmlDeviceGetComputeRunningProcesses": [],
            "nvmlDeviceGetGraphicsRunningProcesses": [],
            "nvmlDeviceGetTotalEnergyConsumption": 1_234_567,
            "nvmlDeviceGetClockInfo": lambda _handle, kind: 1665 if kind == pynvml.NVML_CLOCK_SM else 7001,
            "nvmlDeviceGetFanSpeed": 42,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x4,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x4,
            "nvmlDeviceGetTotalEccErrors": Error(pynvml.NVML_ERROR_NOT_SUPPORTED),
            "nvmlDeviceGetPcieThroughput": lambda _handle, way: 300 if way == pynvml.NVML_PCIE_UTIL_RX_BYTES else 20,
            "nvmlDeviceGetCurrPcieLinkGeneration": 3,
            "nvmlDeviceGetCurrPcieLinkWidth": 16,
            "nvmlDeviceGetMaxPcieLinkGeneration": 4,
            "nvmlDeviceGetMaxPcieLinkWidth": 16,
        } | answers
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name not in self.answers:
            return getattr(pynvml, name)
        return lambda *about: self._answer(name, *about)

    def _answer(self, name: str, *about: Any) -> Any:
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Callable):
            answer = answer(*about)
        if isinstance(answer, Error):
            raise pynvml.NVMLError(answer.number)
        return answer


class Error:
    def __init__(self, number: int) -> None:
        self.number = number


LOST = Error(pynvml.NVML_ERROR_GPU_IS_LOST)
NOT_SUPPORTED = Error(pynvml.NVML_ERROR_NOT_SUPPORTED)


def watch(driver: Driver) -> Watched:
    return Watched(NvmlSource(0.001, nvml=driver))


def first_sample(driver: Driver) -> GpuSample:
    with watch(driver) as watched:
        watched.until(lambda: bool(watched.observations))
    sample = watched.observations[0]
    assert isinstance(sample, GpuSample)
    return sample


def process(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def test_a_sample_is_in_base_units() -> None:
    sample = first_sample(Driver())
    assert sample == GpuSample(
        at=sample.at,
        uuid="GPU-0000-0",
        index=0,
        name="NVIDIA GeForce RTX 3060 Ti",
        driver="580.95.05",
        total_bytes=8589934592,
        used_bytes=2013265920,
        utilization_ratio=0.37,
        temperature_celsius=61.0,
        power_watts=121.5,
        power_limit_watts=200.0,
        energy_joules=1234.567,
        sm_clock_hertz=1_665_000_000,
        memory_clock_hertz=7_001_000_000,
        fan_ratio=0.42,
        throttled=("power_cap",),
        pcie_receive_bytes_per_second=300 * 1024,
        pcie_transmit_bytes_per_second=20 * 1024,
        pcie_link_generation=3,
        pcie_link_width=16,
        pcie_most_generation=4,
        pcie_most_width=16,
    )
    assert sample.took_seconds is not None


@pytest.mark.parametrize(
    ("question", "fields"),
    [
        ("nvmlDeviceGetMemoryInfo", {"total_bytes", "used_bytes"}),
        ("nvmlDeviceGetUtilizationRates", {"utilization_ratio"}),
        ("nvmlDeviceGetTemperature", {"temperature_celsius"}),
        ("nvmlDeviceGetPowerUsage", {"power_watts"}),
        ("nvmlDeviceGetEnforcedPowerLimit", {"power_limit_watts"}),
        ("nvmlSystemGetDriverVersion", {"driver"}),
        ("nvmlDeviceGetTotalEnergyConsumption", {"energy_joules"}),
        ("nvmlDeviceGetClockInfo", {"sm_clock_hertz", "memory_clock_hertz"}),
        ("nvmlDeviceGetFanSpeed", {"fan_ratio"}),
        ("nvmlDeviceGetPcieThroughput", {"pcie_receive_bytes_per_second", "pcie_transmit_bytes_per_second"}),
        ("nvmlDeviceGetCurrPcieLinkWidth", {"pcie_link_width"}),
        ("nvmlDeviceGetCurrPcieLinkGeneration", {"pcie_link_generation"}),
        ("nvmlDeviceGetMaxPcieLinkWidth", {"pcie_most_width"}),
        ("nvmlDeviceGetMaxPcieLinkGeneration", {"pcie_most_generation"}),
    ],
)
@pytest.mark.parametrize(
    "number", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_UNKNOWN]
)
def test_a_field_that_is_not_said_is_none_and_the_others_stay(question: str, fields: set[str], number: int) -> None:
    full, partial = first_sample(Driver()), first_sample(Driver(**{question: Error(number)}))
    for field in {each.name for each in dataclasses.fields(GpuSample)} - {"at", "took_seconds"}:
        assert getattr(partial, field) == (None if field in fields else getattr(full, field))


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x28, ("slowdown_hardware", "thermal_software")),
        (0x1FF, get_args(ThrottleReason)),
        (0xFFFF_0000_0000_0000, ()),
    ],
)
def test_why_the_clocks_are_held_down(bits: int, reasons: tuple[str, ...]) -> None:
    told = first_sample(Driver(nvmlDeviceGetCurrentClocksEventReasons=bits)).throttled
    assert set(told or ()) == set(reasons)
    assert told is not None


def test_an_older_driver_knows_the_reasons_under_their_older_name() -> None:
    driver = Driver(nvmlDeviceGetCurrentClocksEventReasons=Error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND))
    assert first_sample(driver).throttled == ("power_cap",)


def test_a_card_that_tells_no_reason_is_not_one_that_has_none() -> None:
    driver = Driver(
        nvmlDeviceGetCurrentClocksEventReasons=NOT_SUPPORTED, nvmlDeviceGetCurrentClocksThrottleReasons=NOT_SUPPORTED
    )
    assert first_sample(driver).throttled is None


def test_memory_errors_are_counted_where_the_card_counts_them() -> None:
    driver = Driver(nvmlDeviceGetTotalEccErrors=lambda _handle, kind, _since: 7 if kind == 0 else 0)
    sample = first_sample(driver)
    assert (sample.ecc_corrected, sample.ecc_uncorrected) == (7, 0)


def test_a_comfyui_is_known_by_its_folder(tmp_path: Path) -> None:
    assert program_of(["python", "main.py", "--listen"], str(tmp_path)) == "other"
    (tmp_path / "comfy").mkdir()
    assert program_of(["python", "main.py", "--listen"], str(tmp_path)) == "comfyui"
    assert program_of(["python", f"{tmp_path}/main.py"], "/") == "comfyui"
    assert program_of(["python", "-m", "gpuwatch_runner", "main.py"], "/") == "runner"
    assert program_of([], "/") == "other"


def test_zero_is_not_none() -> None:
    sample = first_sample(Driver(nvmlDeviceGetUtilizationRates=SimpleNamespace(gpu=0), nvmlDeviceGetPowerUsage=0))
    assert (sample.utilization_ratio, sample.power_watts) == (0.0, 0.0)


def test_processes_are_named_and_counted_once() -> None:
    driver = Driver(
        nvmlDeviceGetComputeRunningProcesses=[process(os.getpid(), 1 << 30), process(NOBODYS_PID, None)],
        nvmlDeviceGetGraphicsRunningProcesses=[process(os.getpid(), 1 << 30)],
        nvmlSystemGetProcessName="/usr/bin/python3",
    )
    assert first_sample(driver).processes == (
        GpuProcess(os.getpid(), psutil.Process().name(), 1 << 30),
        GpuProcess(NOBODYS_PID, "/usr/bin/python3", None),
    )


def test_a_process_that_nobody_can_name_has_no_name() -> None:
    driver = Driver(
        nvmlDeviceGetComputeRunningProcesses=[process(NOBODYS_PID, 5)],
        nvmlDeviceGetGraphicsRunningProcesses=NOT_SUPPORTED,
        nvmlSystemGetProcessName=Error(pynvml.NVML_ERROR_NOT_FOUND),
    )
    assert first_sample(driver).processes == (GpuProcess(NOBODYS_PID, None, 5),)


def test_names_in_bytes_are_read() -> None:
    sample = first_sample(
        Driver(nvmlDeviceGetName=b"Tesla T4", nvmlDeviceGetUUID=b"GPU-1", nvmlSystemGetDriverVersion=b"535")
    )
    assert (sample.name, sample.uuid, sample.driver) == ("Tesla T4", "GPU-1", "535")


def test_every_gpu_is_sampled_again_and_again() -> None:
    with watch(Driver(gpus=2)) as watched:
        watched.until(lambda: len(watched.observations) >= 6)
    assert [each.index for each in watched.observations[:6]] == [0, 1, 0, 1, 0, 1]
    assert str(watched.reason) == "stopped"


@pytest.mark.parametrize("number", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_without_a_driver_it_says_so_and_ends(number: int) -> None:
    reason = NvmlSource(nvml=Driver(nvmlInit=Error(number))).run(lambda _: True, threading.Event())
    assert str(reason) == "no NVIDIA driver on this machine: no GPU samples"


def test_a_driver_that_does_not_answer_is_told_apart() -> None:
    driver = Driver(nvmlInit=Error(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH))
    assert "RM has detected" in str(NvmlSource(nvml=driver).run(lambda _: True, threading.Event()))


def test_the_real_library_on_this_machine_gives_samples_or_a_reason() -> None:
    with Watched(NvmlSource(0.01)) as watched:
        watched.until(lambda: bool(watched.observations) or watched.reason is not None)
    assert watched.error is None
    assert (
        isinstance(watched.observations[0], GpuSample)
        if watched.observations
        else "no GPU samples" in str(watched.reason)
    )


@pytest.mark.parametrize(
    "driver", [Driver(gpus=0), Driver(nvmlDeviceGetHandleByIndex=Error(pynvml.NVML_ERROR_NO_PERMISSION))]
)
def test_a_driver_without_a_gpu_for_us_ends_it(driver: Driver) -> None:
    reason = NvmlSource(0.001, nvml=driver).run(lambda _: True, threading.Event())
    assert str(reason) == "the NVIDIA driver shows no GPU to this user: no GPU samples"
    assert driver.asked[-1] == "nvmlShutdown"


def test_a_lost_gpu_is_a_failure_with_a_reason() -> None:
    driver = Driver()
    with watch(driver) as watched:
        watched.until(lambda: bool(watched.observations))
        driver.answers["nvmlDeviceGetPowerUsage"] = LOST
        with pytest.raises(GpuwatchError, match=r"GPU 0 \(NVIDIA GeForce RTX 3060 Ti\) is lost") as failed:
            watched.ended()
    assert "Xid" in str(failed.value.hint)
    assert driver.asked[-1] == "nvmlShutdown"


def test_a_gpu_lost_before_we_came_is_told() -> None:
    with pytest.raises(GpuwatchError, match="GPU 0"):
        NvmlSource(nvml=Driver(nvmlDeviceGetHandleByIndex=LOST)).run(lambda _: True, threading.Event())


def test_one_lost_gpu_does_not_end_the_others() -> None:
    driver = Driver(gpus=3)
    with watch(driver) as watched:
        watched.until(lambda: len(watched.observations) >= 3)
        driver.answers["nvmlDeviceGetMemoryInfo"] = lambda handle: LOST if handle == 1 else NOT_SUPPORTED
        watched.until(lambda: any(isinstance(each, SourceDown) for each in watched.observations))
        place = next(n for n, each in enumerate(watched.observations) if isinstance(each, SourceDown))
        watched.until(lambda: len(watched.observations) >= place + 5)
    down = watched.observations[place]
    assert isinstance(down, SourceDown)
    assert (down.source, down.failed) == ("nvml 1", True)
    assert {each.index for each in watched.observations[place + 1 :]} == {0, 2}


def test_a_driver_that_is_unloaded_is_a_failure() -> None:
    driver = Driver()
    with watch(driver) as watched:
        watched.until(lambda: bool(watched.observations))
        driver.answers["nvmlDeviceGetMemoryInfo"] = Error(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        with pytest.raises(GpuwatchError, match="no longer answers: Driver Not Loaded"):
            watched.ended()
