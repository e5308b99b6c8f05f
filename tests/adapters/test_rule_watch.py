"""Rules and mutes that change while logs are read: taken where they are sound, told where they are not, never lost."""

from __future__ import annotations

import os
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuwatch.adapters import rule_watch
from gpuwatch.adapters.rule_watch import RuleWatch, seen_in
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.engine import Engine
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.reloads import Change, MutesLoaded, MutesRefused, RulesLoaded, RulesRefused
from gpuwatch.core.rules import RuleSet
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text, render, text
from tests.adapters.test_own_rules import RULE

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder, and a shipped folder that is small, so that reading it anew is quick."""
    folder, shipped = tmp_path / "config", tmp_path / "shipped"
    (folder / "rules").mkdir(parents=True)
    shipped.mkdir()
    (shipped / "one.yaml").write_text(RULE.replace("my-failure", "shipped-one"), "utf-8")
    monkeypatch.setenv("GPUWATCH_CONFIG_DIR", str(folder))
    for module in ("gpuwatch.adapters.rule_watch", "gpuwatch.adapters.rulebook"):
        monkeypatch.setattr(f"{module}.shipped_folder", lambda _name: shipped)
    return folder


def only(changes: list[Change]) -> Change:
    (change,) = changes
    return change


def refusal(change: Change) -> str:
    assert isinstance(change, RulesRefused | MutesRefused)
    return render(change.reason)


def ids(change: Change) -> list[str]:
    assert isinstance(change, RulesLoaded)
    assert change.matcher.rules is change.rules
    return [rule.id for rule in change.rules]


def test_nothing_changed_is_nothing_told(config: Path) -> None:
    watch = RuleWatch()
    assert watch.look() == watch.look() == []
    (config / "rules" / "notes.txt").write_text("x")
    (config / "rules" / ".mine.yaml.swp").write_text("x")
    assert watch.look() == []


def test_a_rule_comes_changes_and_goes(config: Path) -> None:
    watch = RuleWatch(clock=lambda: AT)
    mine = config / "rules" / "mine.yaml"
    mine.write_text(RULE, "utf-8")
    change = only(watch.look())
    assert ids(change) == ["shipped-one", "my-failure"]
    assert change.at == AT
    assert watch.look() == []
    status = mine.stat()
    mine.write_text(RULE.replace("my-failure", "my-collapse"), "utf-8")
    os.utime(mine, ns=(status.st_atime_ns, status.st_mtime_ns))  # the same time, another size
    assert ids(only(watch.look())) == ["shipped-one", "my-collapse"]
    mine.unlink()
    assert ids(only(watch.look())) == ["shipped-one"]


def test_a_broken_edit_is_told_once_with_its_place_and_mended(config: Path) -> None:
    watch = RuleWatch()
    mine = config / "rules" / "mine.yaml"
    mine.write_text(RULE.replace("severity", "severty") + "---\nid: 1\n", "utf-8")
    told = refusal(only(watch.look()))
    assert told == f"{mine}:4: `severty` is not known; is `severity` meant? (1 more)"
    assert watch.look() == []
    mine.write_text(RULE, "utf-8")
    assert ids(only(watch.look())) == ["shipped-one", "my-failure"]


def test_a_file_that_is_still_being_written_is_looked_at_again(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = RuleWatch()
    mine = config / "rules" / "mine.yaml"
    mine.write_text(RULE[:20], "utf-8")

    def load(folder: Path | None) -> RuleSet:
        try:
            return load_rules(folder)
        finally:
            mine.write_text(RULE, "utf-8")  # the rest comes while the first half is read

    monkeypatch.setattr("gpuwatch.adapters.rulebook.load_rules", load)
    assert watch.look() == []
    assert ids(only(watch.look())) == ["shipped-one", "my-failure"]


@pytest.mark.parametrize("which", ["own", "named", "shipped"])
def test_a_folder_that_vanishes_keeps_the_rules_and_comes_back(config: Path, tmp_path: Path, which: str) -> None:
    named = tmp_path / "named"
    named.mkdir()
    (named / "named.yaml").write_text(RULE.replace("my-failure", "named-one"), "utf-8")
    (config / "rules" / "mine.yaml").write_text(RULE, "utf-8")
    watch = RuleWatch(named)
    folder = {"own": config / "rules", "named": named, "shipped": tmp_path / "shipped"}[which]
    shutil.move(folder, tmp_path / "away")
    assert refusal(only(watch.look())) == f"{folder}: the rules folder is gone."
    assert watch.look() == []
    shutil.move(tmp_path / "away", folder)
    assert ids(only(watch.look())) == ["shipped-one", "my-failure", "named-one"]


def test_the_own_folder_may_come_later(config: Path) -> None:
    (config / "rules").rmdir()
    watch = RuleWatch()
    assert watch.look() == []
    (config / "rules").mkdir()
    (config / "rules" / "mine.yaml").write_text(RULE, "utf-8")
    assert ids(only(watch.look())) == ["shipped-one", "my-failure"]


def test_whatever_goes_wrong_is_told_and_nothing_more(config: Path) -> None:
    def fail(_rules: RuleSet) -> Matcher:
        raise MemoryError("no room")

    watch = RuleWatch(ready=fail)
    (config / "rules" / "mine.yaml").write_text(RULE, "utf-8")
    assert "no room" in refusal(only(watch.look()))


def test_what_stands_in_a_folder_and_is_gone_a_moment_later(tmp_path: Path) -> None:
    assert seen_in(tmp_path / "nowhere") is None
    (tmp_path / "a.yaml").symlink_to("gone")
    assert seen_in(tmp_path) == (("a.yaml", 0, 0, 0),)


def test_mutes_come_break_and_go(config: Path) -> None:
    watch, path = RuleWatch(), config / "mutes.yaml"
    path.write_text("- rule: my-failure\n")
    change = only(watch.look())
    assert isinstance(change, MutesLoaded)
    assert [mute.rule for mute in change.mutes.entries] == ["my-failure"]
    path.write_text("- rul: my-failure\n")
    assert refusal(only(watch.look())) == f"{path}:1: `rul` is not known; is `rule` meant?"
    path.unlink()
    change = only(watch.look())
    assert isinstance(change, MutesLoaded)
    assert change.mutes.entries == ()


def test_mutes_stay_where_their_folder_is_gone(config: Path, tmp_path: Path) -> None:
    (config / "mutes.yaml").write_text("- rule: my-failure\n")
    (config / "rules").rmdir()
    watch = RuleWatch()
    shutil.move(config, tmp_path / "away")
    assert refusal(only(watch.look())) == f"{config}: the folder is gone."
    shutil.move(tmp_path / "away", config)
    assert isinstance(only(watch.look()), MutesLoaded)


class Waiting:
    """A log that tells what it is told to, when it is told to."""

    name, kind = "a.log", "file"

    def __init__(self) -> None:
        self.more = threading.Event()

    def run(self, emit: object, stop: threading.Event) -> Text:
        """Tell a line, wait for the word, tell it again."""
        assert callable(emit)
        emit(LogChunk(AT, "a.log", b"my very own failure\n"))
        while not self.more.wait(0.05) and not stop.is_set():
            pass
        emit(LogChunk(AT, "a.log", b"my very own failure\n"))
        return text("ended")


def test_the_loop_takes_new_rules_while_a_log_is_read(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_watch, "POLL_SECONDS", 0.02)
    watch = RuleWatch()
    engine, log, taken = Engine(load_rules()), Waiting(), threading.Event()
    pipeline = Pipeline(engine, [log], attendants=[watch])  # type: ignore[list-item]
    pipeline.subscribe(lambda _events, snapshot: taken.set() if snapshot.rules is not None else None)
    pipeline.start()
    (config / "rules" / "mine.yaml").write_text(
        RULE.replace("error", "critical").replace("node_failed", "nan_output"), "utf-8"
    )
    (config.parent / "shipped" / "one.yaml").unlink()
    assert taken.wait(20)
    while "shipped-one" in (pipeline.snapshot.rules or RuleSet(())).by_id:
        assert not pipeline.wait(0.05)
    log.more.set()
    assert pipeline.wait(20)
    pipeline.stop()
    told = [(one.rule.id, one.severity) for one in pipeline.snapshot.incidents.values()]
    assert told[0] == ("shipped-one", "error")
    assert told[-1] == ("my-failure", "critical")
