"""A first rule for a person to change: commented, sound as it stands, and passing its own examples.

Where shipped rules know words of the new rule's example, they are named as overridden; else the example would be theirs.
"""

from __future__ import annotations

from pathlib import Path

from gpuwatch.adapters.whole_file import beside, mode_of
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.rules import Label
from gpuwatch.errors import UsageError, unwritable
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import text

_TEMPLATE = """\
# yaml-language-server: $schema={schema}
# One failure, one document. Write the next one below a line with three hyphens.
# For several failures that mean something together, `correlate` stands in place of `match`: see docs/rules.md.
id: {id}
label: {label}
title: {{en: "What happened, in a few words", zh: "用几个字说明发生了什么"}}
severity: error                     # info, warning, error or critical
why:
  en: What is behind it, in a sentence or two.
  zh: 用一两句话说明原因。
# Over the bytes of one line, without its time and level. Words that always stand there make it fast.
match:
  - '(?i){pattern}'
unless:                             # a line that also says this is no failure
  - '(?i){pattern}.{{0,40}}retrying'
{overrides}# Numbers out of the line and its neighbours; the last word of a name is its unit: _bytes, _count, _seconds, _path, ...
facts:
  - 'tried (?P<tried_bytes>[\\d.]+ [KMG]iB)'
back: 0                             # how many lines before and after the facts are looked for in
ahead: 4
clear: {{after: success}}             # over when a job succeeds; `restart`: when the program starts anew
fixes:
  - free_memory
  - {{action: correct_input, title: {{en: "What a person can do.", zh: "可以怎么做。"}}, safety: safe}}
references: []
examples:
  match:
    - log: "{example}"
    - log: "{example}: tried 1.50 GiB"
      facts: {{tried_bytes: 1610612736}}
  ignore:
    - "{example}, retrying"
    - "100%|##########| 20/20"
"""


def template_of(rule_id: str, label: Label, others: Matcher, folder: Path | None = None) -> str:
    """The rule file, as it is written into a folder; `others` are the rules that it is laid over."""
    words = rule_id.split("-")
    example = f"MyNode: {' '.join(words)}"
    told = others.matches([example.encode(), f"{example}: tried 1.50 GiB".encode()])
    beaten = sorted({rule.id for rules in told.values() for rule in rules} - {rule_id})
    overrides = f"overrides: [{', '.join(beaten)}]   # rules that know these words too and give way\n" if beaten else ""
    return _TEMPLATE.format(
        id=rule_id,
        label=label,
        schema=schema_address(folder),
        pattern="[ -]".join(words),
        example=example,
        overrides=overrides,
    )


def schema_address(folder: Path | None) -> str:
    """The schema as a file in a folder names it: editors read it from there."""
    shipped = shipped_folder("rules").absolute()
    if folder is not None and folder.absolute() == shipped:
        return "schema.json"
    return (shipped / "schema.json").as_uri()


def write_new(path: Path, content: str) -> None:
    """Write a file that is not there yet, whole or not at all; its folder is made. Raises UsageError where one is there."""
    elsewhere = text("Name another file with --out.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path, content.encode()) as temporary:
            temporary.chmod(mode_of(path))
            path.hardlink_to(temporary)  # unlike a rename, it never takes the place of a file
    except FileExistsError as error:
        raise UsageError(text("{path} is there already; nothing was written.", path=str(path)), elsewhere) from error
    except OSError as error:
        raise unwritable(path, error, elsewhere) from error
