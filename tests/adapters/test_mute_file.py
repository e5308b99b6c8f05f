"""mutes.yaml: mistakes have their place, an entry comes and goes, and what a person wrote around it stays."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwatch.adapters.mute_file import add_mute, load_mutes, moment_of, read_mutes, remove_mute
from gpuwatch.core.mutes import Mute
from gpuwatch.errors import UsageError

HAND = """\
# mine
- rule: oom   # because
  note: >
    a new card
    is coming

# the second
-   label: nan_output
    until: 2026-02-01

- {pattern: 'a: \\d+', source: a.log}
# the end
"""


def test_no_file_mutes_nothing(tmp_path: Path) -> None:
    assert load_mutes(tmp_path / "mutes.yaml").entries == ()
    (tmp_path / "mutes.yaml").write_text("# nothing\n")
    assert load_mutes(tmp_path / "mutes.yaml").entries == ()


def test_what_a_person_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mutes.yaml"
    path.write_text(HAND)
    rule, label, pattern = load_mutes(path).entries
    assert (rule.rule, rule.note, rule.where) == ("oom", "a new card is coming\n", f"{path}:2")
    assert label.label == "nan_output"
    assert label.until is not None
    assert label.until.astimezone().replace(tzinfo=None) == datetime(2026, 2, 2)  # noqa: DTZ001 - the local day's end
    assert (pattern.pattern, pattern.source) == (rb"a: \d+", "a.log")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("- rul: a\n", "mutes.yaml:1: `rul` is not known; is `rule` meant?"),
        ("- note: a\n", "mutes.yaml:1: one of `rule`, `label` and `pattern` is wanted here."),
        ("- rule: a\n  label: xid\n", "mutes.yaml:1: one of `rule`, `label` and `pattern` is wanted here."),
        ("# x\n- label: nan_ouput\n", "mutes.yaml:2: `nan_ouput` is not known; is `nan_output` meant?"),
        ("- pattern: '(a'\n", "mutes.yaml:1: the pattern does not compile"),
        ("- pattern: 'a*'\n", "mutes.yaml:1: the pattern matches an empty line"),
        ("- pattern: '(?:a{60000}){60000}'\n", "mutes.yaml:1: the pattern repeats too often"),
        ("- rule: a\n  until: tomorrow\n", "mutes.yaml:2: a day such as 2026-02-01"),
        ("- rule: a\n  until: 7\n", "mutes.yaml:2: a day such as 2026-02-01"),
        ("- rule: a\n  until: 9999-12-31\n", "mutes.yaml:2: this day is too far away."),
        ("- rule: a\n  note: ''\n", "mutes.yaml:2: from 1 to 500 characters are wanted here."),
        ("- rule: 7\n", "mutes.yaml:1: a string is wanted here, not a number"),
        ("rule: a\n", "mutes.yaml:1: a list of mutes is wanted here"),
        ("- just words\n", "mutes.yaml:1: a mapping is wanted here"),
        ("- &a {rule: b}\n- *a\n", "mutes.yaml:2: aliases are not allowed here"),
        ("- rule: !!python/name:os.system x\n", "mutes.yaml:1: tags such as "),
        ("- rule: 'open\n", "mutes.yaml:2: is no YAML"),
        ("- rule: a\n" * 1001, "mutes.yaml:1: more than 1000 mutes"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, content: str, wanted: str) -> None:
    path = tmp_path / "mutes.yaml"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        load_mutes(path)
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(wanted)


def test_every_mistake_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mutes.yaml"
    path.write_text("- rule: a\n- rul: b\n- label: c\n- rule: d\n")
    entries, problems = read_mutes(path)
    assert [mute.rule for mute in entries] == ["a", "d"]
    assert len(problems) == 2


def test_what_is_no_ordinary_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("pipe", "folder", "nowhere"):
        with pytest.raises(UsageError):
            load_mutes(tmp_path / name)


def test_an_entry_comes_and_goes_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mutes.yaml"
    mute = Mute(rule="oom", note="it's: known", until=datetime(2030, 1, 1, 12, tzinfo=UTC), source="a b.log")
    first = add_mute(mute, path)
    assert [(one.rule, one.note, one.until, one.source) for one in first.entries] == [
        ("oom", "it's: known", mute.until, "a b.log")
    ]
    begun = path.read_text()
    add_mute(Mute(pattern="^显存 'x' \\d+ # no comment".encode()), path)
    assert load_mutes(path).entries[1].pattern == "^显存 'x' \\d+ # no comment".encode()
    remove_mute(load_mutes(path).entries[1], path)
    assert path.read_text() == begun
    assert [name.name for name in path.parent.iterdir()] == ["mutes.yaml"]


def test_the_same_again_takes_the_old_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "mutes.yaml"
    add_mute(Mute(rule="oom", note="old"), path)
    add_mute(Mute(label="xid"), path)
    add_mute(Mute(rule="oom", until=datetime(2030, 1, 1, tzinfo=UTC)), path)
    assert [(one.rule, one.label, one.note) for one in load_mutes(path).entries] == [
        (None, "xid", None),
        ("oom", None, None),
    ]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_entry_written_by_hand_is_cut_out_and_nothing_else(tmp_path: Path, number: int) -> None:
    path = tmp_path / "mutes.yaml"
    path.write_text(HAND)
    path.chmod(0o600)
    entries = load_mutes(path).entries
    left = remove_mute(entries[number], path).entries
    assert [one.where.rpartition(":")[0] for one in left] == [str(path)] * 2
    gone, kept = set(HAND.splitlines()) - set(path.read_text().splitlines()), path.read_text()
    assert {"# mine", "# the second", "# the end"} <= set(kept.splitlines())
    assert len(gone) == [4, 2, 1][number]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", ["[{rule: a}, {rule: b}]\n", "[{rule: a},\n {rule: b}]\n", "---\n- rule: a\n---\n- rule: b\n"]
)
def test_a_file_that_is_written_otherwise_is_changed_rightly_or_not_at_all(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mutes.yaml"
    path.write_text(content)
    first = load_mutes(path).entries[0]
    for change in (lambda: remove_mute(first, path), lambda: add_mute(Mute(rule="c"), path)):
        before = [one.rule for one in load_mutes(path).entries]
        try:
            change()
        except UsageError:
            assert [one.rule for one in load_mutes(path).entries] == before
        else:
            assert [one.rule for one in load_mutes(path).entries] != before


def test_a_file_with_a_mistake_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "mutes.yaml"
    path.write_text("- rul: a\n")
    with pytest.raises(UsageError, match="`rul` is not known"):
        add_mute(Mute(rule="b"), path)
    assert path.read_text() == "- rul: a\n"


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("- rule: a\n")
    (tmp_path / "mutes.yaml").symlink_to("real.yaml")
    add_mute(Mute(rule="b"), tmp_path / "mutes.yaml")
    assert (tmp_path / "mutes.yaml").is_symlink()
    assert len(load_mutes(tmp_path / "real.yaml").entries) == 2


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        add_mute(Mute(rule="a"), tmp_path / "file" / "mutes.yaml")


_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40).filter(
    str.strip
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_WORDS, _WORDS, st.datetimes(datetime(2000, 1, 1), datetime(2900, 1, 1)))  # noqa: DTZ001 - given a zone below
def test_what_is_written_is_read_back(tmp_path: Path, rule: str, note: str, until: datetime) -> None:
    path = tmp_path / "mutes.yaml"
    path.unlink(missing_ok=True)
    until = until.replace(microsecond=0, tzinfo=UTC)
    (read,) = add_mute(Mute(rule=rule, note=note, until=until), path).entries
    assert (read.rule, read.note, read.until) == (rule, note, until)
    assert remove_mute(read, path).entries == ()


def test_days_and_times() -> None:
    assert moment_of("2026-02-01T10:00:00+08:00") == datetime(2026, 2, 1, 2, tzinfo=UTC)
    day = moment_of("2026-02-01")
    assert day is not None
    assert day - datetime(2026, 2, 1, tzinfo=day.tzinfo) == timedelta(days=1)
    for words in ("", "soon", "2026-13-01", "9999-12-31", "2026-02-01 25:00"):
        assert moment_of(words) is None
