"""The pages say what the program does: made parts are fresh, names exist, links lead somewhere, examples work."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gpuwatch.adapters.rule_document import OPTIONAL, REQUIRED
from gpuwatch.core.rules import ACTIONS
from gpuwatch.faces import cli
from gpuwatch.faces.exporter import METRICS
from gpuwatch.faces.exporter.pushgateway import RUN_METRICS

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TWINS = sorted((ROOT / "docs").glob("*.zh-CN.md"))
ABRIDGED = {"metrics.zh-CN.md"}
"""Twins that send their reader to the other's tables."""
VERBS = cli.verb_names()
STALE = "run `python docs/generate.py`"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_MADE = re.compile(r"<!-- begin (.+?): made by .*?<!-- end \1 -->", re.DOTALL)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The page's code blocks in these languages."""
    return (found[2] for found in _FENCE.finditer(page.read_text("utf-8")) if found[1] in languages)


def commands(script: str) -> Iterator[list[str]]:
    """The gpuwatch command lines in a shell block or in a verb's examples."""
    for line in script.splitlines():
        words = re.split(r"\s{2,}|\s#\s", line.strip().removeprefix("$ "))[0]
        for part in re.split(r"\s*\|\s*(?=\w)", words):
            if part.startswith("gpuwatch"):
                yield shlex.split(part.partition(" < ")[0])[1:]


def refused(words: list[str]) -> str | None:
    """What the command line says against the words; None where it takes them."""
    parser = cli.build_parser({name: cli.load_verb(name) for name in VERBS})
    first = next((word for word in words if not word.startswith("-")), None)
    try:
        parser.parse_args(words if first in VERBS else ["watch", *words])
    except cli.UsageError as error:
        return f"{words}: {error}"
    return None


def anchors(page: Path) -> set[str]:
    """The page's headings as links name them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_made_parts_are_fresh(generator: ModuleType) -> None:
    stale = [path.name for path, content in generator.pages().items() if path.read_text("utf-8") != content]
    assert stale == [], STALE


def test_the_families_are_the_rule_files(generator: ModuleType) -> None:
    assert {path.stem for path in (ROOT / "rules").glob("*.yaml")} == set(generator.rule_listing.FAMILIES)


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_readmes_name_every_verb(page: Path) -> None:
    told = page.read_text("utf-8")
    assert [verb for verb in VERBS if f"`gpuwatch {verb}`" not in told] == []


def test_the_readmes_have_the_same_commands_and_link_to_each_other() -> None:
    english, chinese = READMES

    def told(page: Path) -> list[list[str]]:
        return [words for block in blocks(page, "sh", "console") for words in commands(block)]

    assert told(english) == told(chinese)
    assert f"]({chinese.name})" in english.read_text("utf-8")
    assert f"]({english.name})" in chinese.read_text("utf-8")


@pytest.mark.parametrize("chinese", TWINS, ids=lambda page: page.name)
def test_twins_link_to_each_other_and_tell_the_same_commands_and_numbers(chinese: Path) -> None:
    english = chinese.with_name(chinese.name.replace(".zh-CN", ""))

    def told(page: Path) -> tuple[list[list[str]], set[str]]:
        words = _MADE.sub("", page.read_text("utf-8"))
        return [words for block in blocks(page, "sh", "console") for words in commands(block)], set(
            _NUMBER.findall(words)
        )

    assert f"]({chinese.name})" in english.read_text("utf-8")
    assert f"]({english.name})" in chinese.read_text("utf-8")
    (commands_here, numbers_here), (commands_there, numbers_there) = told(chinese), told(english)
    assert commands_here == commands_there
    assert numbers_here <= numbers_there
    assert numbers_there <= numbers_here or chinese.name in ABRIDGED


def test_every_metric_is_told() -> None:
    told = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    assert [row.name for row in (*METRICS, *RUN_METRICS) if f"`{row.name}`" not in told] == []


def test_no_metric_is_told_that_is_not_there() -> None:
    known = {row.name for row in METRICS} | {metric.name for metric in RUN_METRICS}
    known |= {
        f"{row.name}{part}" for row in METRICS if row.kind == "histogram" for part in ("_bucket", "_count", "_sum")
    }
    told = {name for page in PAGES for name in re.findall(r"\bgpuwatch_[a-z_]+", page.read_text("utf-8"))}
    assert told - known <= {"gpuwatch_runner"}


def test_every_event_of_the_log_is_told() -> None:
    faces = "\n".join(path.read_text("utf-8") for path in (ROOT / "src" / "gpuwatch" / "faces").rglob("*.py"))
    guard = (ROOT / "src" / "gpuwatch" / "adapters" / "comfyui" / "guarding.py").read_text("utf-8")
    events = set(re.findall(r'event="([a-z_]+)"', faces)) | set(re.findall(r'self\._say\("([a-z_]+)"', guard))
    told = set(_INLINE.findall((ROOT / "docs" / "metrics.md").read_text("utf-8")))
    assert events - told == {"no_browser"}  # of the verb that opens a browser, which is no service


def test_every_key_and_action_of_a_rule_is_told() -> None:
    told = set(_INLINE.findall((ROOT / "docs" / "rules.md").read_text("utf-8")))
    keys = {*REQUIRED, *OPTIONAL}
    assert keys - told == set()
    assert set(ACTIONS) - told == set()


@pytest.mark.parametrize("page", ["architecture.md", "architecture.zh-CN.md"])
def test_the_architecture_names_what_is_there(page: str) -> None:
    told = (ROOT / "docs" / page).read_text("utf-8")
    sources = [path for folder in ("src", "runner", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")]
    assert set(re.findall(r"\b[a-z_]+\.py\b", told)) - {path.name for path in sources} == set()
    core = {path.name for path in (ROOT / "src" / "gpuwatch" / "core").glob("*.py")} - {"__init__.py"}
    assert core - set(re.findall(r"\b[a-z_]+\.py\b", told)) == set()


@_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@_PAGE
def test_commands_are_taken(page: Path) -> None:
    told = [words for block in blocks(page, "sh", "console") for words in commands(block)]
    assert [complaint for words in told if (complaint := refused(words))] == []


@_PAGE
def test_verbs_in_passing_exist(page: Path) -> None:
    told = {
        found[1] for words in _INLINE.findall(page.read_text("utf-8")) if (found := re.match(r"gpuwatch (\w+)", words))
    }
    assert told <= set(VERBS)


@pytest.mark.parametrize("verb", list(map(cli.load_verb, VERBS)), ids=VERBS)
def test_the_examples_of_the_help_are_taken(verb: ModuleType) -> None:
    told = list(commands(verb.__doc__ or ""))
    assert told
    assert [complaint for words in told if (complaint := refused(words))] == []


@pytest.mark.parametrize("page", [*READMES, ROOT / "docs" / "rules.md"], ids=lambda page: page.name)
def test_the_example_rule_loads_and_passes_its_own_examples(
    page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPUWATCH_CONFIG_DIR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (rule,) = blocks(page, "yaml")
    (tmp_path / "mine.yaml").write_text(rule, "utf-8")
    assert cli.main(["rules", "check", str(tmp_path)]) == 0
    assert cli.main(["rules", "test", str(tmp_path)]) == 0
    assert ", 0 failed" in capsys.readouterr().out
