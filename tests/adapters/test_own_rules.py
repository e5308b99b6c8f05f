"""Where a person's own rules are found, and that they lie between the shipped ones and a named folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwatch.adapters.rulebook import load_rules, read_rules
from gpuwatch.errors import UsageError
from gpuwatch.settings import config_folder, own_rules_folder
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import render

RULE = """\
id: my-failure
label: node_failed
title: {en: Mine, zh: 我的}
severity: error
why: {en: Because., zh: 因为。}
match: my very own failure
examples: {match: my very own failure, ignore: no failure}
"""


def test_the_place_of_the_own_folder() -> None:
    home = Path("/home/me")
    assert config_folder({"GPUWATCH_CONFIG_DIR": "/a", "XDG_CONFIG_HOME": "/b"}, home) == Path("/a")
    assert config_folder({"GPUWATCH_CONFIG_DIR": "", "XDG_CONFIG_HOME": "/b"}, home) == Path("/b/gpuwatch")
    assert config_folder({"XDG_CONFIG_HOME": "relative"}, home) == Path("/home/me/.config/gpuwatch")
    assert config_folder({}, home) == Path("/home/me/.config/gpuwatch")
    assert config_folder({}, None) is None


def test_the_own_rules_folder_is_there_or_is_not(tmp_path: Path) -> None:
    assert own_rules_folder({}, tmp_path) is None
    assert own_rules_folder({"GPUWATCH_CONFIG_DIR": str(tmp_path)}) is None
    rules = tmp_path / ".config" / "gpuwatch" / "rules"
    rules.mkdir(parents=True)
    assert own_rules_folder({}, tmp_path) == rules
    assert own_rules_folder({}, Path("/dev/null")) is None


def test_an_own_folder_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"GPUWATCH_CONFIG_DIR: there is no folder .*/gone"):
        own_rules_folder({"GPUWATCH_CONFIG_DIR": str(tmp_path / "gone")})
    (tmp_path / "rules").touch()
    with pytest.raises(UsageError, match=r"rules is no folder"):
        own_rules_folder({"GPUWATCH_CONFIG_DIR": str(tmp_path)})
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=r"loop: cannot be read: Too many levels"):
        own_rules_folder({"GPUWATCH_CONFIG_DIR": str(tmp_path / "loop")})


def test_three_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, named = tmp_path / "config" / "rules", tmp_path / "named"
    own.mkdir(parents=True)
    named.mkdir()
    monkeypatch.setenv("GPUWATCH_CONFIG_DIR", str(tmp_path / "config"))
    (own / "mine.yaml").write_text(RULE, "utf-8")
    (own / "oom.yaml").write_text(RULE.replace("my-failure", "cuda-oom-native"), "utf-8")
    (named / "mine.yaml").write_text(
        RULE.replace("en: Mine", "en: Named").replace("id:", "overrides: [cuda-oom-native]\nid:")
    )
    rules = load_rules(named)
    assert len(rules) == len(read_rules(shipped_folder("rules")).rules) + 1
    assert render(rules.by_id["cuda-oom-native"].title, "en") == "Mine"
    assert render(rules.by_id["my-failure"].title, "en") == "Named"
    (own / "oom.yaml").write_text("id: 1", "utf-8")
    with pytest.raises(UsageError, match=r"oom.yaml:1: "):
        load_rules(named)
