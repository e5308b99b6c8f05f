"""`gpuwatch rules`: beginning a rule, and a person's own rules beside the shipped ones."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from gpuwatch.adapters.located import read_documents
from gpuwatch.adapters.rule_document import rule_from
from gpuwatch.adapters.rule_template import template_of
from gpuwatch.adapters.rulebook import load_rules, read_rules
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.errors import UsageError
from gpuwatch.faces import cli
from gpuwatch.faces.commands import rules as command

pytestmark = pytest.mark.usefixtures("config")

SHIPPED = load_rules()


def own_rule(config: Path, rule_id: str) -> Path:
    folder = config / "rules"
    folder.mkdir(exist_ok=True)
    assert cli.main(["rules", "new", rule_id, "--out", str(folder)]) == 0
    return folder / f"{rule_id}.yaml"


def test_a_new_rule_passes_check_and_test_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert cli.main(["rules", "new", "upscaler-gave-up", "--label", "nan_output"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# yaml-language-server: $schema=file:///")
    (folder / "upscaler.yaml").write_text(printed, "utf-8")
    assert cli.main(["rules", "check", str(folder)]) == 0
    assert cli.main(["rules", "test", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == ["1 rules, no mistake.", "4 passed, 0 failed"]
    assert read_rules(folder).rules.by_id["upscaler-gave-up"].label == "nan_output"


def test_how_to_test_a_new_rule_can_be_pasted_into_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my rules"
    folder.mkdir()
    assert cli.main(["rules", "new", "upscaler-gave-up", "--out", str(folder)]) == 0
    assert shlex.split(capsys.readouterr().err.split("`")[1]) == ["gpuwatch", "rules", "test", str(folder)]


def test_an_example_that_no_rule_is_asked_about_is_told_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    assert cli.main(["rules", "new", "upscaler-gave-up", "--out", str(path)]) == 0
    whole = path.read_text("utf-8")
    log = whole.partition('log: "')[2].partition('"')[0] or whole.partition("log: '")[2].partition("'")[0]
    path.write_text(whole.replace(log, f"Note: {log}"), "utf-8")
    assert cli.main(["rules", "test", str(tmp_path)]) == 2
    assert "no rule is asked about a note" in capsys.readouterr().err


IDS = [
    "x",
    "retrying",
    "tried",
    "nothing",
    "mynode",
    "gpu0",
    "a-b-c-1-2",
    "out-of-memory",
    "cuda-error",
    *SHIPPED.by_id,
]


def test_whatever_the_id_the_new_rule_finds_its_own_examples(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    rules, shipped = [], Matcher(SHIPPED)
    for rule_id in IDS:
        path.write_text(template_of(rule_id, "node_failed", shipped), "utf-8")
        (document,) = read_documents(path)
        rules.append(rule_from(document))
    everything = Matcher(SHIPPED.layered(rules))
    for rule in rules:
        alone = Matcher(SHIPPED.layered([rule])) if rule.overrides else everything
        for example in rule.matching_examples:
            found = alone.matches([example.log.encode()])[0]
            assert rule.id in {one.id for one in found}, (rule.id, rule.overrides)
        for log in rule.ignored_examples:
            found = alone.matches([log.encode()]).get(0, [])
            assert rule.id not in {one.id for one in found}, (rule.id, log)


def test_a_new_rule_goes_before_shipped_ones_that_know_its_words(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_rule(config, "segmentation-fault")
    assert cli.main(["rules", "test", str(path.parent)]) == 0
    assert capsys.readouterr().out == "4 passed, 0 failed\n"


def test_a_new_rule_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my rules" / "mine.yaml"
    assert cli.main(["rules", "new", "my-failure", "--out", str(path)]) == 0
    out, err = capsys.readouterr()
    assert (out, "is written" in err) == ("", True)
    path.write_text("precious", "utf-8")
    assert cli.main(["rules", "new", "my-failure", "--out", str(path)]) == 2
    assert "is there already; nothing was written." in capsys.readouterr().err
    assert path.read_text("utf-8") == "precious"
    assert [entry.name for entry in path.parent.iterdir()] == ["mine.yaml"]


def test_a_new_rule_of_a_shipped_id_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rules", "new", "cuda-oom-native", "--out", str(tmp_path)]) == 0
    assert "cuda-oom-native takes the place of " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["My_Failure"], "an id is lower-case words joined by hyphens, not `My_Failure`."),
        (["a" * 300], "an id has at most 64 characters; this one has 300."),
        (["my-failure", "--label", "cuda_ooom"], "`cuda_ooom` is not known; is `cuda_oom` meant?"),
        (["my-failure", "--out", "mine.txt"], "mine.txt would not be read: a rule file ends in .yaml."),
        (
            ["my-failure", "--out", "/proc/nowhere/mine.yaml"],
            "/proc/nowhere/mine.yaml: cannot be written: No such file or directory",
        ),
    ],
)
def test_what_cannot_be_begun(words: list[str], wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rules", "new", *words]) == 2
    assert wanted in capsys.readouterr().err


def test_own_rules_are_listed_with_their_place(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.list_rules(load_rules(), as_json=False)
    assert "my-failure" not in capsys.readouterr().out
    path = own_rule(config, "my-failure")
    assert cli.main(["rules", "list", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["id"], last["where"]) == ("my-failure", f"{path}:4")


def test_the_list_has_a_column_for_the_place(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rules", "list"]) == 0
    assert "where" not in capsys.readouterr().out.splitlines()[0]
    path = own_rule(config, "my-failure")
    assert cli.main(["rules", "list"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert "".join(line[heading.index("where") :].strip() for line in lines) == f"{path}:4"


def test_check_and_test_know_the_own_folder(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rules", "check"]) == 0
    assert capsys.readouterr().out == f"{len(SHIPPED.every)} rules, no mistake.\n"
    path = own_rule(config, "my-failure")
    assert cli.main(["rules", "check"]) == 0
    assert capsys.readouterr().out == f"{len(SHIPPED.every) + 1} rules, no mistake.\n"
    path.write_text(path.read_text("utf-8").replace("severity", "severty"), "utf-8")
    assert cli.main(["rules", "check"]) == 2
    assert f"{path}:7: `severty` is not known; is `severity` meant?" in capsys.readouterr().err
    with pytest.raises(UsageError, match="severty"):
        load_rules()


def test_a_folder_that_is_checked_may_override_an_own_rule(config: Path, tmp_path: Path) -> None:
    own_rule(config, "my-failure")
    other = tmp_path / "other"
    other.mkdir()
    assert cli.main(["rules", "new", "your-failure", "--out", str(other)]) == 0
    with (other / "your-failure.yaml").open("a", encoding="utf-8") as file:
        file.write("overrides: [my-failure]\n")
    assert cli.main(["rules", "check", str(other)]) == 0
    assert cli.main(["rules", "test", str(other)]) == 0


def test_a_config_folder_that_is_gone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.rmdir()
    assert cli.main(["rules", "list"]) == 2
    assert f"GPUWATCH_CONFIG_DIR: there is no folder {config}." in capsys.readouterr().err
