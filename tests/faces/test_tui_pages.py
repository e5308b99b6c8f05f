"""The pages, what is written to files, what is remembered, and the screen's habits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from textual.geometry import Size
from textual.pilot import Pilot

from gpuwatch.core.observations import (
    GpuSample,
    JobEnded,
    JobProgress,
    LogChunk,
    QueueState,
    ServerSeen,
    SourceDown,
    SourceKind,
)
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import SourceStatus
from gpuwatch.faces.commands.watch import has_signs
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.faces.tui.charts import curve
from gpuwatch.faces.tui.gpu_page import gpu_charts, gpu_page
from gpuwatch.faces.tui.health import health_row
from gpuwatch.faces.tui.jobs_page import peak_of
from gpuwatch.faces.tui.machine import machine_rows
from gpuwatch.faces.tui.pages import PAGES
from gpuwatch.faces.tui.paint import width_of
from gpuwatch.faces.tui.remembered import Remembered
from gpuwatch.faces.tui.themes import ANSI, PALETTES, Palette
from gpuwatch.texts import current, text, use
from tests.faces.tui_play import explained, play, screen, two_failures, until
from tests.faces.tui_story import AT, FAILURES, GIB, Story, gpu, host, log, runner, watch

SERVER = "127.0.0.1:8188"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    use("en")
    yield tmp_path
    use("en")


def server() -> Story:
    return Story(
        "comfyui",
        "comfyui",
        [
            ServerSeen(AT, SERVER, "0.24.0", (), "RTX 4060"),
            QueueState(AT, SERVER, pending=3, running=1),
            JobProgress(AT, SERVER, "job", "12", 7, 20),
            JobEnded(
                AT, SERVER, "a", "success", duration_seconds=12.5, waited_seconds=3, node_seconds={"KSampler": 9.0}
            ),
            JobEnded(AT, SERVER, "c", "success", workload="ddcolor", tokens_per_image=6400),
            JobEnded(AT, SERVER, "b", "error", node_type="DDColor", exception_type="torch.OutOfMemoryError"),
        ],
    )


def test_every_page_is_reached_by_key_by_turning_and_by_a_click() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        for key, words in (("p", "RTX 4060"), ("J", "No server is watched"), ("R", "No run of gpuwatch's own")):
            await pilot.press(key)
            await until(pilot, lambda words=words: words in screen(app) and "strayed" not in screen(app), words)  # type: ignore[misc]
        await pilot.press("R")
        await until(pilot, lambda: "strayed" in screen(app), "home")
        seen = []
        for _ in PAGES:
            await pilot.press("right_square_bracket")
            seen.append(app.body.page)
        assert seen == ["gpu", "jobs", "runner", "home"]
        await pilot.click(app.tabs, offset=(screen(app).splitlines()[1].index("Jobs"), 0))
        await until(pilot, lambda: app.body.page == "jobs", "the clicked page")
        await pilot.press("escape")
        assert app.body.page == "home"
        await pilot.press("p", "slash")
        assert app.body.page == "home", "searching is looking at the log"

    play(watch(log(FAILURES), gpu(), host()), scene)


def test_the_gpu_page_has_history_the_predicted_peak_and_processes_to_sort() -> None:
    throttled = Story("later", "nvml", [GpuSample(AT, "GPU-2", 1, "A100", throttled=("power_cap", "thermal_hardware"))])

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await until(pilot, lambda: len(app.snapshot.gpus) == 2, "both cards")
        await pilot.press("p")
        rows = app.body.page_pane.rows
        await until(pilot, lambda: "held down: power limit, heat (hardware)" in rows.shown, "why it is slow")
        for words in ("8.00 GiB", "120 / 165 W", "61 °C", "50 %", "24 samples", "processes by memory"):
            assert words in rows.shown
        assert rows.shown.index("4121") < rows.shown.index("17 ?")
        await pilot.press("s")
        await until(pilot, lambda: "processes by process id" in rows.shown, "by pid")
        assert rows.shown.index("17 ?") < rows.shown.index("4121")

    play(watch(log(FAILURES), gpu(), host(), throttled), scene, (120, 60))


def test_the_predicted_peak_is_marked_on_the_curve() -> None:
    sample = GpuSample(AT, "GPU-1", 0, "RTX 4060", total_bytes=8 * GIB, used_bytes=2 * GIB)
    rows = ["".join(w for w, _ in r.spans) for r in gpu_charts([replace(sample)] * 9, 90, 6 * GIB)]
    assert sum("predicted peak 6.00 GiB" in line for line in rows) == 1


@pytest.mark.parametrize("name", ["en", "zh"])
def test_no_row_of_the_page_is_wider_than_it(name: str) -> None:
    use("zh" if name == "zh" else "en")
    samples = (GpuSample(AT, "GPU-1", 0, "RTX 4060", "560", 8 * GIB, 2 * GIB, 0.5, 61.0, 120.0, 165.0),) * 90
    rows = gpu_page(Snapshot(gpus={"GPU-1": samples}), 60, 40, "memory", 6 * GIB)
    assert any("6.00 GiB" in words for row in rows for words, _ in row.spans)
    assert max(width_of(row.spans) for row in rows) <= 60


def test_the_curves_take_the_room_that_is_left_and_stand_below_each_other() -> None:
    sample = GpuSample(AT, "GPU-1", 0, "RTX 4060", None, 8 * GIB, 2 * GIB, 0.5, 61.0, 120.0, 165.0)
    snapshot = Snapshot(gpus={"GPU-1": (sample,) * 9})
    low, high = (gpu_page(snapshot, 90, height, "memory", None) for height in (10, 60))
    assert len(low) < len(high) < 60
    axes = {line.index("│") for line in ("".join(w for w, _ in r.spans) for r in high) if "│" in line}
    assert len(axes) == 1


def test_what_a_job_had_on_the_card_is_told_where_it_was_seen() -> None:
    samples = tuple(
        GpuSample(AT + timedelta(seconds=second), "GPU-1", 0, "RTX 4060", used_bytes=used * GIB)
        for second, used in enumerate((7, 1, 4, 2, 6))
    )
    job = JobEnded(AT + timedelta(seconds=3), "server", "a", "success", duration_seconds=2.0)
    assert peak_of(job, Snapshot(gpus={"GPU-1": samples})) == 4 * GIB
    assert peak_of(job, Snapshot(gpus={"GPU-1": samples, "GPU-2": samples})) is None, "which card is not known"
    assert peak_of(replace(job, duration_seconds=None), Snapshot(gpus={"GPU-1": samples})) is None
    assert peak_of(job, Snapshot()) is None


def test_the_jobs_page_tells_what_the_server_does() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await pilot.press("J")
        await until(pilot, lambda: "OutOfMemoryError" in screen(app), "the failed job")
        shown = screen(app)
        for words in (
            "1 running, 3 waiting",
            "ComfyUI 0.24.0",
            "node 12",
            "7/20",
            "longest: 9.0 s in KSampler",
            "waited",
            "3.0 s",
            "12.5 s",
            "tokens an image",
            "6,400",
        ):
            assert words in shown
        assert "ComfyUI 0.24.0 1 running, 3 waiting" in app.health.shown

    play(watch(server()), scene)


@pytest.mark.parametrize(("source", "silent"), [("nvml", (0, 1)), ("nvml 1", (1,)), ("drm", ()), ("nvml 2", ())])
def test_a_card_whose_driver_ceased_to_answer_is_not_shown_as_if_it_did(source: str, silent: tuple[int, ...]) -> None:
    cards = [
        GpuSample(AT, f"GPU-{index}", index, "RTX 4060", None, 8 * GIB, (index + 3) * GIB, 0.5, 61.0)
        for index in (0, 1)
    ]
    kind: SourceKind = "drm" if source == "drm" else "nvml"
    down = SourceStatus(source, kind, "failed", text("the card is gone."))
    snapshot = Snapshot(gpus={card.uuid: (card,) for card in cards}, sources={source: down}, at=AT)
    line = "".join(words for words, _ in health_row(snapshot, None, "", 300).spans)
    pages = (machine_rows(snapshot, 100), gpu_page(snapshot, 100, 60, "memory", None))
    for index in (0, 1):
        assert (f"✗ GPU {index} does not answer" in line) == (index in silent)
        assert (f"GPU {index} {index + 3}.0/8.0 GiB" in line) == (index not in silent)
    for page in pages:
        told = "\n".join("".join(words for words, _ in row.spans) for row in page)
        assert told.count("✗ the card is gone. The last reading is of") == len(silent)


def test_where_room_is_short_the_fullest_card_is_the_one_that_is_told() -> None:
    cards = [GpuSample(AT, f"GPU-{n}", n, "A100", None, 80 * GIB, held * GIB) for n, held in enumerate((10, 20, 79, 5))]
    snapshot = Snapshot(gpus={card.uuid: (card,) for card in cards}, at=AT)
    narrow, wide = ("".join(words for words, _ in health_row(snapshot, None, "", width).spans) for width in (60, 200))
    assert "GPU 2 79.0/80.0" in narrow
    assert "GPU 3" not in narrow
    assert [wide.index(f"GPU {n}") for n in range(4)] == sorted(wide.index(f"GPU {n}") for n in range(4))


def test_the_runner_page() -> None:
    report = {
        "event": "report",
        "images": 4,
        "load_seconds": 1.5,
        "peak_reserved_bytes": 3 * GIB,
        "trace_files": ["a.json"],
    }

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await pilot.press("R")
        await until(pilot, lambda: "reserved at most" in screen(app), "the report")
        for words in ("4/4", "1.5 s", "3.00 GiB", "a.json"):
            assert words in screen(app)

    play(watch(runner({"event": "started", "images": 4}, report)), scene)


def test_a_failure_is_written_to_a_file_and_nothing_is_written_over(own_state: Path) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("j", "x")
        await until(pilot, lambda: len(list(own_state.glob("*.md"))) == 1, "the file")
        await pilot.press("x")
        await until(pilot, lambda: len(list(own_state.glob("*.md"))) == 2, "another file")

    play(watch(log(FAILURES)), scene)
    page = min(own_state.glob("*.md")).read_text()
    for words in (
        "# GPU memory ran out",
        "4.00 GiB",
        "1. Use a smaller image",
        "`curl -X POST /free`",
        "CUDA out of memory",
    ):
        assert words in page


def test_an_acknowledged_failure_gives_way() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        assert explained(app).rule.id == "kernel"
        await pilot.press("d")
        assert explained(app).rule.id == "kernel", "the one that is read stays"
        await until(
            pilot, lambda: ", seen" in app.body.incidents.rows.shown, "the word; by now its lines may have ceased"
        )
        app.choice.chosen = None
        assert explained(app).rule.id == "memory"
        app.choice.take(app.snapshot, next(i.id for i in app.snapshot.incidents.values() if i.rule.id == "kernel"))
        await pilot.press("d")
        await until(pilot, lambda: "seen" not in app.body.incidents.rows.shown, "taken back")

    play(watch(log(FAILURES)), scene)


def test_memory_before_the_failure_is_drawn() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await until(pilot, lambda: "Memory over the minute before" in app.body.detail.rows.shown, "the picture")
        assert "held on the card" in app.body.detail.rows.shown

    samples = [GpuSample(AT, "GPU-1", 0, "RTX 4060", total_bytes=8 * GIB, used_bytes=n * GIB) for n in range(8)]
    play(watch(Story("nvml", "nvml", samples), log(FAILURES)), scene)


def test_what_was_chosen_is_remembered(own_state: Path) -> None:
    place = own_state / "state" / "screen.json"

    async def change(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "every key" in app.notice_line.shown and app.notice_line.display, "the first hint")
        await pilot.press("t", "l", "J", "h")
        await pilot.press("q")

    async def look(app: WatchApp, pilot: Pilot[None]) -> None:
        assert (app.theme, app.body.page, current()) == ("gpuwatch-light", "jobs", "zh")
        assert app.body.log_pane.histogram.display
        assert not app.notice_line.display
        await pilot.press("q")

    play(WatchApp(watch(log(FAILURES)).pipeline, remembers=place), change)
    use("en")
    play(WatchApp(watch(log(FAILURES)).pipeline, remembers=place), look)
    assert json.loads(place.read_text())["language"] == "zh"


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"page": 7, "theme": [], "wrap": "yes"}', '{"theme": "none", "page": "x"}', "[" * 9000]
)
def test_a_damaged_memory_is_as_good_as_none(own_state: Path, damage: str) -> None:
    place = own_state / "screen.json"
    place.write_text(damage)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        assert (app.theme, app.body.page) == ("gpuwatch-dark", "home")

    play(WatchApp(watch(log(FAILURES)).pipeline, remembers=place), scene)
    assert Remembered.read(place) == Remembered(theme="gpuwatch-dark")


def test_a_folder_that_cannot_be_written_is_no_trouble(own_state: Path) -> None:
    (own_state / "file").write_text("")
    Remembered().write(own_state / "file" / "screen.json")


def test_a_size_that_was_missed_is_noticed() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        app.notice_size(Size(90, 30))
        await until(pilot, lambda: app.size == Size(90, 30) == app.screen.size, "the new size")
        app._size = Size(70, 20)
        app.notice_size(Size(70, 20))
        await until(pilot, lambda: app.screen.size == Size(70, 20), "a screen that lagged behind")

    play(watch(log(FAILURES)), scene)


def test_the_palette_knows_every_key() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("ctrl+p", *"what", "space", *"runs")
        await until(pilot, lambda: "the queue, what runs" in screen(app), "the command")
        await pilot.press("enter")
        await until(pilot, lambda: app.body.page == "jobs", "the page")

    play(watch(log(FAILURES)), scene)


def test_the_palette_finds_words_of_either_language_and_says_where_none_is_found() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("l", "ctrl+p", *"what", "space", *"runs")
        await until(pilot, lambda: "队列、正在运行、已结束" in screen(app), "the command by its English words")
        assert "the queue, what runs" in screen(app)
        await pilot.press(*"xqz")
        await until(pilot, lambda: "没有含有这些字词的命令。" in screen(app), "that there is none")
        assert "No matches" not in screen(app)
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) == 1, "the screen below")
        await pilot.press("l", "ctrl+p", *"xqz")
        await until(pilot, lambda: "No command has these words." in screen(app), "the same in English")

    play(watch(log(FAILURES)), scene)


def test_sixteen_colours_are_sixteen_colours() -> None:
    known = {
        f"#{r}{g}{b}"
        for r in ("00", "80", "ff", "c0")
        for g in ("00", "80", "ff", "c0")
        for b in ("00", "80", "ff", "c0")
    }
    colours = [getattr(ANSI, name) for name in Palette.__dataclass_fields__ if isinstance(getattr(ANSI, name), str)]
    assert set(colours) - {ANSI.name} <= known
    assert ANSI.selected != ANSI.background != ANSI.text
    assert ANSI.name in PALETTES


@pytest.mark.parametrize(
    ("named", "told"),
    [({}, True), ({"LANG": "C"}, False), ({"LANG": "zh_CN.UTF-8"}, True), ({"LC_ALL": "POSIX", "LANG": "C.UTF-8"}, False),
     ({"LANG": "de_DE.ISO-8859-1"}, False), ({"LC_CTYPE": "en_US.utf8"}, True)],
)  # fmt: skip
def test_a_locale_without_signs_has_no_screen(named: dict[str, str], told: bool) -> None:
    assert has_signs(named) is told


def test_a_curve_stands_as_high_as_its_values() -> None:
    full, *_rest, bottom = curve([0.0, 1.0, None, None, 1.0, 1.0], 3, 4)
    assert full == "⢸ ⣿"
    assert bottom == "⣸ ⣿"
    assert curve([], 3, 2) == ["   ", "   "]


def test_a_server_that_does_not_answer_is_told_and_nothing_is_called_well() -> None:
    gone = Story(SERVER, "comfyui", [QueueState(AT, SERVER, 3, 1)])

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "1 running, 3 waiting" in app.health.shown, "the server")
        gone.tell(
            SourceDown(AT, SERVER, "comfyui", text("{server}: nothing listens there.", server=SERVER), failed=True)
        )
        await until(pilot, lambda: "does not answer" in app.health.shown, "that it is gone")
        assert "✗ lost" in app.health.shown
        assert "1 running" not in app.health.shown
        assert "Not everything can be watched." in screen(app)
        assert f"✗ {SERVER}: nothing listens there." in screen(app)
        assert "Nothing wrong" not in screen(app)
        await pilot.press("J")
        await until(pilot, lambda: "✗ does not answer" in screen(app), "it on the page of jobs")

    play(watch(gone), scene)


def test_when_a_failure_from_before_was_is_not_made_up() -> None:
    before = Story("comfyui.log", "file", [LogChunk(AT, "comfyui.log", FAILURES, fresh=False)])

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await until(pilot, lambda: "from before gpuwatch was started" in screen(app), "that it was before")
        assert app.body.incidents.rows.shown.count("earlier") == 2
        clock = AT.astimezone().strftime("%H:%M:%S")
        assert clock not in app.body.incidents.rows.shown + app.body.detail.rows.shown

    play(watch(before), scene, size=(200, 60))


def served(**told: object) -> Story:
    seen = {"version": "0.24.0", "device": "cuda:0 NVIDIA RTX 2060 : native", "total_bytes": 6 * GIB, "free_bytes": GIB}
    return Story("far:8188", "comfyui", [ServerSeen(AT, "far:8188", **{**seen, **told})])  # type: ignore[arg-type]


def test_a_card_that_only_its_server_tells_of_is_shown() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "GPU 5.0/6.0 GiB ━━━━━━━" in app.health.shown, "the card's memory")
        await until(pilot, lambda: "as far:8188 tells it" in app.body.machine.rows.shown, "who tells it")
        await pilot.press("p")
        await until(pilot, lambda: "◇ cuda:0 NVIDIA RTX 2060 : native" in screen(app), "the card on its page")
        assert "5.00 GiB / 6.00 GiB  83 %" in screen(app)

    play(watch(served()), scene, size=(140, 40))


@pytest.mark.parametrize(
    ("more", "told"),
    [({"local": True}, {}), ({}, {"device": "cpu"}), ({}, {"free_bytes": None}), ({}, {"total_bytes": 0})],
)
def test_a_card_that_a_driver_tells_of_and_a_server_without_one_are_not_shown_so(
    more: dict[str, object], told: dict[str, object]
) -> None:
    sources = [gpu()] if more else []

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.snapshot.servers and (not sources or len(app.snapshot.gpus)), "the server")
        await pilot.press("p")
        await until(pilot, lambda: "━ GPU" in screen(app), "the page")
        assert "tells it" not in screen(app)
        assert "far:8188 5.0/6.0" not in app.health.shown

    play(watch(*sources, served(**more, **told)), scene, size=(140, 40))


def test_a_far_servers_card_stands_beside_this_machines_by_its_name() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "GPU far:8188 5.0/6.0 GiB" in app.health.shown, "both cards")
        assert app.health.shown.count("GiB") == 2

    play(watch(gpu(), served(local=False)), scene, size=(160, 40))
