"""The cache never gives anything but what the files say."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import pytest

from gpuwatch.adapters import rulebook, rulecache
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.errors import UsageError

LINE = b"MyNode: the flux capacitor ran dry"
RULE = """
id: {id}
label: node_failed
title: {{en: The capacitor ran dry, zh: 电容耗尽}}
severity: error
why: {{en: It was not filled., zh: 没有充电。}}
match: 'the flux capacitor ran dry'
examples:
  match: ['MyNode: the flux capacitor ran dry']
  ignore: ['all is well', 'the flux capacitor is full', 'ran dry']
"""


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "one.yaml").write_text(RULE.format(id="shipped-rule"))
    for module in (rulebook, rulecache):
        monkeypatch.setattr(module, "shipped_folder", lambda _name: shipped)
    folder = tmp_path / "cache"
    monkeypatch.setenv("GPUWATCH_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Each time that the rule files were read."""
    seen: list[Path | None] = []

    def read(folder: Path | None = None) -> object:
        seen.append(folder)
        return load_rules(folder)

    monkeypatch.setattr(rulebook, "load_rules", read)
    return seen


def test_the_second_time_nothing_is_read_and_the_same_is_found(reads: list[Path | None]) -> None:
    first, second = load_matcher(), load_matcher()
    assert len(reads) == 1
    assert list(first.rules) == list(second.rules)
    assert second.matches([LINE]) == first.matches([LINE])
    assert second.matches([LINE])


def test_only_its_user_can_read_or_write_it(kept: Path) -> None:
    load_matcher()
    assert kept.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in kept.iterdir()] == [0o600]


def test_a_changed_rule_is_read_anew(tmp_path: Path, reads: list[Path | None]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    rule = mine / "own.yaml"
    rule.write_text(RULE.format(id="own"))
    first = load_matcher(mine)
    rule.write_text(rule.read_text().replace("severity: error", "severity: warning"))
    second = load_matcher(mine)
    assert len(reads) == 2
    assert (first.rules.by_id["own"].severity, second.rules.by_id["own"].severity) == ("error", "warning")


def test_a_broken_rule_is_told_of_although_the_others_are_kept(tmp_path: Path) -> None:
    load_matcher()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "own.yaml").write_text("id: [")
    with pytest.raises(UsageError):
        load_matcher(mine)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(65 << 20)


@pytest.mark.parametrize("make", [make_pipe, make_endless, make_huge])
def test_what_is_no_file_of_rules_is_told_and_not_waited_for(make: Callable[[Path], None], tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    make(mine / "own.yaml")
    with pytest.raises(UsageError, match=r"own\.yaml: (?:is no ordinary file|the file is larger)"):
        load_matcher(mine)


def damage_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch gpuwatch-was-here",)


def make_sneaky(path: Path) -> None:
    """A name that goes through an allowed module to another."""
    body = b"\x80\x04\x8c\x12gpuwatch.core.rules\x8c\x0are.os.path\x93."
    path.write_bytes(blake2b(body, digest_size=32).digest() + body)


def make_hostile(path: Path) -> None:
    body = pickle.dumps((Hostile(), None))
    path.write_bytes(blake2b(body, digest_size=32).digest() + body)


def open_to_others(path: Path) -> None:
    path.parent.chmod(0o777)


@pytest.mark.parametrize("spoil", [damage_bytes, cut, empty, make_sneaky, make_hostile, open_to_others])
def test_what_is_odd_is_not_trusted(
    spoil: object, kept: Path, reads: list[Path | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load_matcher()
    spoil(next(kept.iterdir()))  # type: ignore[operator]  # parametrized
    again = load_matcher()
    assert len(reads) == 2
    assert again.matches([LINE])
    assert not (tmp_path / "gpuwatch-was-here").exists()


def test_without_a_place_to_keep_it_the_rules_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GPUWATCH_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert load_matcher().matches([LINE])


def test_few_are_kept(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulecache, "_MOST_KEPT", 2)
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("one", "two", "three"):
        (mine / "own.yaml").write_text(RULE.format(id=name))
        load_matcher(mine)
    assert len(list(kept.iterdir())) == 2


def test_what_a_killed_run_left_is_taken_away_and_nothing_else(kept: Path) -> None:
    kept.mkdir(mode=0o700)
    left, being_written, theirs = (
        kept / f".{'0' * 32}.rules.abcdefgh.new",
        kept / f".{'1' * 32}.rules.ijklmnop.new",
        kept / ".profile",
    )
    for path in (left, being_written, theirs):
        path.touch()
    for path in (left, theirs):
        os.utime(path, (0, 0))
    load_matcher()
    assert {path for path in kept.iterdir() if path.suffix != ".rules"} == {being_written, theirs}


def test_one_that_lives_long_has_its_rules_made_by_another_process(tmp_path: Path) -> None:
    told = """if True:
        import sys
        from gpuwatch.adapters.rulecache import load_matcher
        print(len(load_matcher(lives_long=True).rules.every), "yaml" in sys.modules)
    """
    environment = {**os.environ, "GPUWATCH_CACHE_DIR": str(tmp_path / "own")}
    words = [sys.executable, "-c", told]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=True)
    count, read_here = ended.stdout.split()
    assert int(count) > 50
    assert read_here == "False", "what reads and makes rules was not brought"
    assert list((tmp_path / "own").iterdir())


def test_where_the_other_process_cannot_help_they_are_made_here(reads: list[Path | None], tmp_path: Path) -> None:
    # The other process does not know of this test's rules, so that what it keeps is not what is wanted.
    assert [rule.id for rule in load_matcher(lives_long=True).rules] == ["shipped-rule"]
    assert len(reads) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bad.yaml").write_text("id: [")
    with pytest.raises(UsageError):
        load_matcher(tmp_path / "mine", lives_long=True)
