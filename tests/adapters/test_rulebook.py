"""Every mistake in a rule file is told with its place and what to do; nothing in a file raises anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwatch.adapters.located import Located, Problem, read_documents, read_slowly
from gpuwatch.adapters.rulebook import RuleFolder, read_rules
from gpuwatch.errors import UsageError
from gpuwatch.shipped import shipped_folder

SHIPPED = read_rules(shipped_folder("rules")).rules.by_id

GOOD = """\
id: my-failure
label: node_failed
title: {en: Mine, zh: 我的}
severity: error
why: {en: Because., zh: 因为。}
match:
  - 'my very own failure'
facts:
  - 'tried (?P<tried_bytes>\\d+ MiB)'
fixes: [free_memory]
clear: {after: success}
examples:
  match: ['my very own failure']
  ignore: ['no failure']
"""


def told(folder: Path) -> list[str]:
    """What `rules check` would say, each with its place inside the folder."""
    read = read_rules(folder)
    return [str(problem.as_text()).replace(f"{folder}/", "") for problem in read.complaints(SHIPPED)]


def changed(folder: Path, before: str, after: str) -> list[str]:
    """What is said of the good rule with a part of it changed."""
    assert GOOD.count(before) == 1
    (folder / "mine.yaml").write_text(GOOD.replace(before, after), "utf-8")
    return told(folder)


def test_the_good_rule_is_good(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD, "utf-8")
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ("severity:", "severty:", "mine.yaml:4: `severty` is not known; is `severity` meant?"),
        ("label: node_failed\n", "", "mine.yaml:1: `label` is missing."),
        ("node_failed", "node_fialed", "mine.yaml:2: `node_fialed` is not known; is `node_failed` meant?"),
        ("error", "dreadful", "mine.yaml:4: `dreadful` is not known; use one of info, warning, error, critical."),
        ("[free_memory]", "[free_memroy]", "mine.yaml:10: `free_memroy` is not known; is `free_memory` meant?"),
        ("[free_memory]", "[install]", "mine.yaml:10: install needs a `title` of this rule's own."),
        ("{after: success}", "{after: sucess}", "mine.yaml:11: `sucess` is not known; is `success` meant?"),
        ("{after: success}", "{}", "mine.yaml:11: `after` is missing."),
        ("id: my-failure", "id: My_Failure", "mine.yaml:1: an id is lower-case words joined by hyphens, not `My_Failure`."),
        ("id: my-failure", f"id: {'long-' * 13}", "mine.yaml:1: an id has at most 64 characters; this one has 65."),
        ("id: my-failure", "id: no", "mine.yaml:1: a string is wanted here, not true or false; put it in quotes."),
        ("id: my-failure", "id: 2026-01-01", "mine.yaml:1: a string is wanted here, not a date; put it in quotes."),
        ("{en: Mine, zh: 我的}", "Mine", "mine.yaml:3: a mapping is wanted here, not a string."),
        ("{en: Mine, zh: 我的}", "{en: Mine}", "mine.yaml:3: `zh` is missing."),
        ("{en: Mine, zh: 我的}", "{en: ' ', zh: 我的}", "mine.yaml:3: a text must not be empty."),
        ("severity: error", "severity: error\nback: many", "mine.yaml:5: a whole number from 0 to 32 is wanted here."),
        ("severity: error", "severity: error\necho: 1", "mine.yaml:5: true or false is wanted here, not a number."),
        ("severity: error", "severity: error\nseverity: info", "mine.yaml:5: `severity` stands here twice; keep one of them."),
        ("severity: error", "severity: error\n? [a]\n: b", "mine.yaml:5: a key must be a string."),
        ("severity: error", "\tseverity: error", "mine.yaml:4: a tab stands here; YAML is indented with spaces."),
        ("severity: error", "severity: &a error\nid2: *a", "mine.yaml:5: aliases are not allowed here; write the value out."),
        ("my-failure", "!!python/object:os.system x", "mine.yaml:1: tags such as tag:yaml.org,2002:python/object:os.system "),
        ("my-failure", '"\\ud800"', "mine.yaml:1: is not plain data: "),
        ("my-failure", "2026-13-45", "mine.yaml:1: is not plain data: month must be in 1..12"),
        ("Because.", "Bec\x01use.", "mine.yaml:5: holds a character that YAML does not allow: U+0001."),
        ("title: {en: Mine", "title: {en: Mine, {", "mine.yaml:"),
        ("'my very own failure'\nfacts", "''\nfacts", "mine.yaml:7: the pattern matches an empty line, and so every line;"),
        ("'my very own failure'\nfacts", "'x*'\nfacts", "mine.yaml:7: the pattern matches an empty line, and so every line;"),
        ("'my very own failure'\nfacts", "'x('\nfacts", "mine.yaml:7: the pattern does not compile: missing )"),
        ("'my very own failure'\nfacts", "'[显存]'\nfacts", "mine.yaml:7: a set like [显存] means single bytes here:"),
        ("'my very own failure'\nfacts", "'显存+'\nfacts", "mine.yaml:7: a repeat after a non-ASCII character"),
        ("'my very own failure'\nfacts", "'(?:a{60000}){60000}'\nfacts", "mine.yaml:7: the pattern repeats too often:"),
        ("'my very own failure'\nfacts", "'x|y(?R)'\nfacts", "mine.yaml:7: a pattern must not call itself"),
        ("  - 'my very own failure'\nfacts", "  []\nfacts", "mine.yaml:7: at least one pattern is wanted here."),
        ("tried_bytes", "tried_mb", 'mine.yaml:9: unit "_mb" is not known; use one of _bytes, '),
        ("(?P<tried_bytes>\\d+ MiB)", "x", "mine.yaml:9: a fact pattern needs a named group"),
        ("severity: error", "severity: error\noverrides: [cuda-oom-nativ]",
         "mine.yaml:5: overrides: there is no rule cuda-oom-nativ; is `cuda-oom-native` meant?"),
        ("severity: error", "severity: error\noverrides:\n  - qqqq",
         "mine.yaml:6: overrides: there is no rule qqqq; `gpuwatch rules list` lists them."),
        ("match: ['my very own failure']", "match: []", "mine.yaml:13: a rule needs at least one example that it matches."),
        (GOOD[GOOD.index("examples:"):], "", "mine.yaml:1: `examples` is missing."),
        ("  ignore: ['no failure']\n", "", "mine.yaml:13: `ignore` is missing."),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path: Path, before: str, after: str, wanted: str) -> None:
    (line,) = changed(tmp_path, before, after)
    assert line.startswith(wanted)


def test_ids_are_unique_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD, "utf-8")
    (tmp_path / "b.yaml").write_text(f"# again\n{GOOD}", "utf-8")
    (line,) = told(tmp_path)
    assert line.startswith("b.yaml:2: the id my-failure is taken by ")
    assert line.endswith("a.yaml:1; give one of them another.")


def test_a_rule_with_a_mistake_may_be_overridden(tmp_path: Path) -> None:
    """One mistake is told once."""
    (tmp_path / "a.yaml").write_text(GOOD.replace("error", "dreadful"), "utf-8")
    (tmp_path / "b.yaml").write_text(f"overrides: [my-failure]\n{GOOD.replace('id: my', 'id: your')}", "utf-8")
    assert [line.partition(":")[0] for line in told(tmp_path)] == ["a.yaml"]


def test_every_rule_with_a_mistake_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    documents = [GOOD.replace("my-failure", f"my-failure-{number}") for number in range(4)]
    documents[1] = documents[1].replace("error", "dreadful")
    documents[2] = documents[2].replace("node_failed", "nothing_like_it")
    (tmp_path / "mine.yaml").write_text("---\n".join(documents) + "---\n", "utf-8")
    assert len(told(tmp_path)) == 2
    assert list(read_rules(tmp_path).rules.by_id) == ["my-failure-0", "my-failure-3"]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"# " + b"x" * (5 << 20), "mine.yaml: the file is larger than 1.00 MiB; split it into several."),
        (b"id: a\ntitle: \xff\xfe\n", "mine.yaml:2: is not UTF-8 text; save the file as UTF-8."),
        ("id: 我\n".encode("utf-16"), "mine.yaml:1: is not UTF-8 text; save the file as UTF-8."),
        (b"[" * 100_000, "mine.yaml:1: this is nested deeper than a rule can be."),
        (
            b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
            "mine.yaml:2: aliases are not allowed here; write the value out.",
        ),
        (b"id: 'open\n", "mine.yaml:2: is no YAML: found unexpected end of stream."),
        (b'id: "\\U99999999"\n', "mine.yaml:1: is no YAML: "),
        (b"%YAML " + b"9" * 5000 + b".1\n---\na: b\n", "mine.yaml:1: is no YAML: "),
        (b"just words\n", "mine.yaml:1: a mapping is wanted here, not a string."),
    ],
    ids=["5 MiB", "not UTF-8", "UTF-16", "deep", "bomb", "open quote", "no character", "odd version", "words"],
)
def test_a_file_that_cannot_be_rules(tmp_path: Path, content: bytes, wanted: str) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    (line,) = told(tmp_path)
    assert line.startswith(wanted)


def test_what_is_no_ordinary_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").mkdir()
    (tmp_path / "c.yaml").symlink_to("c.yaml")
    (tmp_path / "d.yaml").symlink_to("nowhere")
    (tmp_path / "e.yaml").symlink_to("/dev/zero")
    lines = told(tmp_path)
    assert [line.partition(":")[0] for line in lines] == ["a.yaml", "b.yaml", "c.yaml", "d.yaml", "e.yaml"]
    assert [line for line in lines if "is no ordinary file" in line] == [lines[0], lines[1], lines[4]]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_read_permission(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD, "utf-8")
    (tmp_path / "mine.yaml").chmod(0)
    assert told(tmp_path) == ["mine.yaml: cannot be read: Permission denied."]


def test_yml_is_read_too_and_files_of_editors_are_not(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(GOOD, "utf-8")
    (tmp_path / ".#mine.yaml").symlink_to("someone@somewhere")
    (tmp_path / "mine.yaml~").write_text("nonsense", "utf-8")
    (tmp_path / "notes.txt").write_text("nonsense", "utf-8")
    assert told(tmp_path) == []
    assert list(read_rules(tmp_path).rules.by_id) == ["my-failure"]


def test_a_folder_that_is_a_file_or_gone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name, wanted in (
        ("file", "no such rules folder"),
        ("gone", "no such rules folder"),
        ("loop", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=wanted) as caught:
            read_rules(tmp_path / name)
        assert caught.value.hint is not None


def test_files_that_vanish_after_they_were_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text(GOOD.replace("my-failure", f"my-{name}"), "utf-8")

    def gone(path: Path, shown: str) -> Iterator[Located]:
        (tmp_path / "b.yaml").unlink(missing_ok=True)
        return read_documents(path, shown)

    monkeypatch.setattr("gpuwatch.adapters.rulebook.read_documents", gone)
    read = read_rules(tmp_path)
    assert list(read.rules.by_id) == ["my-a", "my-c"]
    (problem,) = read.problems
    assert "b.yaml: cannot be read: No such file or directory." in str(problem.as_text())


def test_a_folder_with_too_many_files(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"{number}.yaml").touch()
    with pytest.raises(UsageError, match="more than 1000 rule files"):
        read_rules(tmp_path)


# -- failures together -----------------------------------------------------------------------------------------------------

TOGETHER = """\
id: my-loop
label: crash_loop
title: {en: Mine, zh: 我的}
severity: error
why: {en: Because., zh: 因为。}
correlate:
  any_of: [segfault, my-failure]
  within: 10m
examples:
  match:
    - - {at: 0, label: segfault}
      - {at: 1, log: my very own failure}
  ignore: []
"""


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ("my-failure]", "my-failures]", "b.yaml:7: `my-failures` is not known; is `my-failure` meant?"),
        ("my-failure]", "crash_loop]", "b.yaml:7: a rule must not wait for its own label."),
        ("my-failure]", "7]", "b.yaml:7: a string is wanted here, not a number; put it in quotes."),
        ("[segfault, my-failure]", "[]", "b.yaml:7: a list of labels or rules must not be empty."),
        ("any_of", "anyof", "b.yaml:7: `anyof` is not known; is `any_of` meant?"),
        ("  any_of: [segfault, my-failure]\n", "", "b.yaml:7: either `any_of` or `all_of` is wanted here."),
        ("within: 10m", "within: soon", "b.yaml:8: a time span is wanted here, such as 30s, 10m or 2h."),
        ("within: 10m", "within: 25h", "b.yaml:8: a time span from 1 s to 24 h is wanted here."),
        ("within: 10m", "within: .nan", "b.yaml:8: a time span from 1 s to 24 h is wanted here."),
        ("within: 10m", "within: 10m\n  count: 1", "b.yaml:9: a whole number from 2 to 1000 is wanted here."),
        ("  within: 10m\n", "", "b.yaml:7: `within` is missing."),
        ("any_of: [segfault, my-failure]", "all_of: [segfault, my-failure]\n  after: xid",
         "b.yaml:8: `after` goes with `any_of`, not with `all_of`."),
        ("any_of: [segfault, my-failure]", "all_of: [segfault]", "b.yaml:7: from 2 to 8 are wanted here."),
        ("correlate:", "match: x\ncorrelate:", "b.yaml:6: a rule has `match` or `correlate`, not both."),
        ("correlate:", "echo: true\ncorrelate:", "b.yaml:6: `echo` is not known; use one of "),
        ("at: 1,", "at: -1,", "b.yaml:12: the times of an example must not go back."),
        ("at: 1,", "at: .inf,", "b.yaml:12: the times of an example must not go back."),
        ("at: 1,", "", "b.yaml:12: `at` is missing."),
        ("log: my", "log: x, label: xid, source: my", "b.yaml:12: either `log` or `label` is wanted here."),
        ("label: segfault}", "label: segfalt}", "b.yaml:11: `segfalt` is not known; is `segfault` meant?"),
        ("  ignore: []\n", "  ignore: [[]]\n", "b.yaml:13: an example needs at least one failure."),
    ],
)  # fmt: skip
def test_a_mistake_in_failures_together_is_told_with_its_place(
    tmp_path: Path, before: str, after: str, wanted: str
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD, "utf-8")
    (tmp_path / "b.yaml").write_text(TOGETHER, "utf-8")
    assert told(tmp_path) == []
    assert TOGETHER.count(before) == 1
    (tmp_path / "b.yaml").write_text(TOGETHER.replace(before, after), "utf-8")
    (line,) = told(tmp_path)
    assert line.startswith(wanted)


# -- patterns --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", ["x|", ".", r"\S", r"(?s)(?=.)", r"\W|\w", ".{1,3}", "[^x]"])
def test_what_matches_whatever_there_is_is_refused(tmp_path: Path, match: str) -> None:
    (line,) = changed(tmp_path, "'my very own failure'\nfacts", f"'{match}'\nfacts")
    assert line.startswith("mine.yaml:7: the pattern matches ")


def test_a_slow_pattern_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        GOOD.replace("tried (", "(?:a|a)+b (").replace("{after: success}", "{match: '(?:0|0)+1'}")
    )
    lines = [str(problem.as_text()).replace(f"{tmp_path}/", "") for problem in read_rules(tmp_path).slow()]
    assert [line.partition(": the pattern takes longer than 250 ms on a line of ")[0] for line in lines] == [
        "mine.yaml:9",
        "mine.yaml:11",
    ]


# -- anything --------------------------------------------------------------------------------------------------------------

_PIECES = st.one_of(
    st.sampled_from(
        ["\n", "\n  ", "\n- ", "\n---\n", "\n...\n", ": ", ", ", "[", "]", "{", "}", "&a ", "*a", "!", "!!int ", "!!bool x", "<<: ",
         "=", "'", '"', "\\", "|", ">", "? ", "%YAML 1.1", "%TAG ! x", "#", "\t", "\r", "\x00", "\x85", "\ufeff", "~", "0x", "0b",
         "1:1:1.5", ".inf", "1e999", "2026-99-99", "no", "\\ud800", "@", "`", *GOOD.splitlines(keepends=True)]
    ),
    st.text(max_size=5),
)  # fmt: skip


def harvest(path: Path, content: bytes) -> RuleFolder:
    path.write_bytes(content)
    return read_rules(path.parent)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_PIECES, max_size=25).map("".join))
def test_any_text_is_rules_or_mistakes_with_a_place(tmp_path: Path, words: str) -> None:
    read = harvest(tmp_path / "mine.yaml", words.encode("utf-8", "surrogatepass"))
    assert all(f"{tmp_path}/mine.yaml" in str(problem.as_text()) for problem in read.complaints(()))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(GOOD)), st.integers(0, 12), _PIECES)
def test_a_rule_with_a_piece_replaced_is_a_rule_or_a_mistake(
    tmp_path: Path, place: int, length: int, piece: str
) -> None:
    words = GOOD[:place] + piece + GOOD[place + length :]
    read = harvest(tmp_path / "mine.yaml", words.encode("utf-8", "surrogatepass"))
    assert len(read.rules) + len(read.problems) >= (1 if words.strip("- \n") and not words.startswith("#") else 0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_are_yaml_or_a_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with suppress(Problem):
        list(read_documents(tmp_path / "mine.yaml"))


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_PIECES, max_size=25).map("".join))
def test_what_the_quick_parser_reads_is_what_the_other_reads(tmp_path: Path, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(words, "utf-8", errors="replace", newline="")
    with suppress(Problem):
        documents = list(read_slowly(path.read_bytes().decode(), str(path)))
        assert list(read_documents(path)) == documents
