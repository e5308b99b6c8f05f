"""What Linux says of AMD and Intel GPUs, once a second: files of the kernel's drivers, no library and no vendor's tool.

The files are those that the kernel documents: amdgpu's `mem_info_vram_*` and `gpu_busy_percent`, the hwmon classes of amdgpu,
i915 and xe, the PCI link, the frequencies of i915 and xe. **Untested on hardware**: the tests read a made-up tree with the
names and units of that documentation. What a file does not say is None, never 0; which file a card has depends on its driver
and the kernel's age. The reasons for a throttled clock and Apple's GPUs are not read.

A processor's own graphics is not taken for a card that computes: which card a failure speaks of would be in doubt.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.sources import Emit
from gpuwatch.adapters.sources.drm_clients import Clients
from gpuwatch.adapters.sources.programs import Programs, name_of
from gpuwatch.core.observations import GpuSample, GpuVendor, SourceDown, SourceKind
from gpuwatch.texts import Text, text

CLASS, PCI = Path("/sys/class/drm"), Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_PROCESSORS_OWN_BYTES = 2 << 30
"""Firmware sets so much aside for a processor's graphics as a rule; a card of that size beside a larger one is one."""
_VENDORS: dict[str, GpuVendor] = {"0x1002": "amd", "0x8086": "intel"}
_CARD = re.compile(r"card(\d{1,4})")
_MOST_CARDS, _MOST_BYTES = 64, 4096
_MEGA = 1_000_000
_PWM_MOST = 255
_GENERATIONS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}
"""PCIe generations by their GT/s."""
_ERRORS = re.compile(r"^(ue|ce): *(\d{1,18})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Card:
    """A card of a vendor that is read here, with what does not change while it is there."""

    folder: Path
    index: int
    vendor: GpuVendor
    address: str
    """On the PCI bus."""
    uuid: str
    """The card's own where it has one, else its place on the PCI bus."""
    name: str
    driver: str | None

    @property
    def device(self) -> Path:
        """The folder of its PCI device."""
        return self.folder / "device"


class DrmSource:
    """Samples every AMD and Intel GPU of the machine at an interval."""

    kind: SourceKind = "drm"
    name = "drm"

    def __init__(
        self,
        interval_seconds: float = 1.0,
        *,
        folder: Path = CLASS,
        clients: Clients | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._interval_seconds = interval_seconds
        self._folder = folder
        self._clock = clock
        self._clients = Clients() if clients is None else clients
        self._programs = Programs()
        self._energy: dict[str, tuple[float, float]] = {}
        """By uuid, when the energy was read last and what it was."""

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Sample until told to stop, or until no card is left."""
        cards = cards_in(self._folder)
        while cards and not stop.is_set():
            held = self._clients.held()
            for card in tuple(cards):
                observation: GpuSample | SourceDown = self._sample(card, held.get(card.address, {}))
                if not card.device.exists():
                    cards.remove(card)
                    reason = text("GPU {index} ({name}) is gone: its driver no longer shows it", index=card.index,
                                  name=card.name)  # fmt: skip
                    name = f"{self.name} {card.index}"
                    observation = SourceDown(self._clock(), name, self.kind, reason, failed=True)
                if not emit(observation):
                    return text("stopped")
            stop.wait(self._interval_seconds)
        return text("stopped") if stop.is_set() else text("no AMD or Intel GPU is left on this machine")

    def _sample(self, card: Card, held: Mapping[int, int]) -> GpuSample:
        """What the card's files say now. One that sleeps is let sleep: reading its files would wake it."""
        at, started = self._clock(), time.perf_counter()
        if words_of(card.device / "power" / "runtime_status") == "suspended":
            self._energy.pop(card.uuid, None)
            return GpuSample(at, card.uuid, card.index, card.name, card.driver, vendor=card.vendor)
        device, sensors = card.device, hwmon_of(card.device)
        busy = number_of(device / "gpu_busy_percent")
        fan = number_of(sensors / "pwm1")
        energy_joules = scaled(first_number(sensors / "energy1_input", sensors / "energy2_input"), 1_000_000)
        watts = scaled(first_number(sensors / "power1_average", sensors / "power1_input"), 1_000_000)
        limit = first_number(sensors / "power1_cap", sensors / "power1_max", sensors / "power2_max")
        errors = dict(_ERRORS.findall(words_of(device / "ras" / "umc_err_count") or ""))
        megahertz = first_number(card.folder / "gt_act_freq_mhz", device / "tile0" / "gt0" / "freq0" / "act_freq")
        return GpuSample(
            at=at,
            uuid=card.uuid,
            index=card.index,
            name=card.name,
            driver=card.driver,
            vendor=card.vendor,
            total_bytes=number_of(device / "mem_info_vram_total"),
            used_bytes=number_of(device / "mem_info_vram_used"),
            utilization_ratio=None if busy is None else min(busy, 100) / 100,
            temperature_celsius=scaled(temperature_of(sensors), 1000),
            power_watts=self._mean_watts(card.uuid, energy_joules) if watts is None else watts,
            processes=self._programs.holding(held, name_of),
            power_limit_watts=scaled(limit or None, 1_000_000),  # 0 is a limit that is switched off
            energy_joules=energy_joules,
            sm_clock_hertz=number_of(sensors / "freq1_input") if megahertz is None else megahertz * _MEGA,
            memory_clock_hertz=number_of(sensors / "freq2_input"),
            fan_ratio=None if fan is None else min(fan, _PWM_MOST) / _PWM_MOST,
            ecc_corrected=int(errors["ce"]) if "ce" in errors else None,
            ecc_uncorrected=int(errors["ue"]) if "ue" in errors else None,
            pcie_link_generation=generation_of(device / "current_link_speed"),
            pcie_link_width=number_of(device / "current_link_width"),
            pcie_most_generation=generation_of(device / "max_link_speed"),
            pcie_most_width=number_of(device / "max_link_width"),
            took_seconds=time.perf_counter() - started,
        )

    def _mean_watts(self, uuid: str, energy_joules: float | None) -> float | None:
        """The power since the last sample, of a card that tells only its energy; Intel's do."""
        if energy_joules is None:
            return None
        now = time.monotonic()
        before = self._energy.get(uuid)
        self._energy[uuid] = (now, energy_joules)
        if before is None or energy_joules < before[1] or now <= before[0]:
            return None
        return (energy_joules - before[1]) / (now - before[0])


def cards_in(folder: Path = CLASS) -> list[Card]:
    """The AMD and Intel cards that tell anything, by their numbers."""
    try:
        names = [found for each in folder.iterdir() if (found := _CARD.fullmatch(each.name))]
    except OSError:
        return []
    cards = [
        card
        for found in sorted(names, key=lambda found: int(found[1]))[:_MOST_CARDS]
        if (card := card_at(folder / found[0], int(found[1]))) is not None
    ]
    sizes = {card: number_of(card.device / "mem_info_vram_total") for card in cards}
    has_large = any((size or 0) >= _PROCESSORS_OWN_BYTES for size in sizes.values())
    small = {card for card, size in sizes.items() if has_large and size is not None and size < _PROCESSORS_OWN_BYTES}
    return [card for card in cards if card not in small and tells(card)]


def computes_here(folder: Path = CLASS, pci: Path = PCI) -> bool:
    """Whether AMD's or Intel's cards are what computes here: they are not where NVIDIA's stand beside them."""
    try:
        displays = [each for each in pci.iterdir() if (words_of(each / "class") or "").startswith(_DISPLAY)]
    except OSError:
        displays = []
    return not any(words_of(each / "vendor") == _NVIDIA for each in displays) and bool(cards_in(folder))


def card_at(folder: Path, index: int) -> Card | None:
    """The card; None where it is of another vendor."""
    device = folder / "device"
    vendor = _VENDORS.get(words_of(device / "vendor") or "")
    if vendor is None:
        return None
    uevent = dict(line.partition("=")[::2] for line in (words_of(device / "uevent") or "").splitlines())
    address = uevent.get("PCI_SLOT_NAME") or folder.name
    unique = words_of(device / "unique_id")
    name = words_of(device / "product_name")
    if not name:
        name = (
            f"{vendor.upper() if vendor == 'amd' else vendor.title()} GPU {words_of(device / 'device') or ''}".strip()
        )
    return Card(
        folder, index, vendor, address, f"GPU-{unique}" if unique else f"PCI-{address}", name, uevent.get("DRIVER")
    )


def tells(card: Card) -> bool:
    """Whether the card says anything of itself. A processor's own graphics has neither memory nor sensors."""
    sensors = hwmon_of(card.device)
    files = (card.device / "mem_info_vram_total", card.device / "gpu_busy_percent", sensors / "temp1_input",
             sensors / "temp2_input", sensors / "energy1_input", sensors / "energy2_input")  # fmt: skip
    return any(file.exists() for file in files)


def hwmon_of(device: Path) -> Path:
    """The folder of the device's sensors; one that does not exist where it has none."""
    return next(iter(sorted((device / "hwmon").glob("hwmon*"))), device / "hwmon" / "none")


def temperature_of(sensors: Path) -> int | None:
    """In thousandths of a degree: amdgpu's edge is the first sensor, Intel's package the second."""
    return first_number(sensors / "temp1_input", sensors / "temp2_input")


def first_number(*files: Path) -> int | None:
    """The number of the first file that has one."""
    return next((number for file in files if (number := number_of(file)) is not None), None)


def number_of(file: Path) -> int | None:
    """A file's number; None where there is no such file, it cannot be read now, or it says something else."""
    words = words_of(file) or ""
    return int(words) if words.isascii() and words.isdigit() and len(words) < 20 else None


def generation_of(file: Path) -> int | None:
    """The PCIe generation of a link speed such as `16.0 GT/s PCIe`."""
    return _GENERATIONS.get((words_of(file) or "").partition(" ")[0])


def words_of(file: Path) -> str | None:
    """What stands in a small file; None where it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return None


def scaled(number: int | None, parts: int) -> float | None:
    """In the base unit, of which the number counts so many parts."""
    return None if number is None else number / parts
