"""The Chinese catalogue: which English strings the program shows, and which of them have no Chinese yet.

    python -m tests.package.catalogue        update the .po from the code, write the .mo

Strings are found by reading the code: the first literal of `text(...)`, `_(...)` and `translate(...)`, the words of each
verb's docstring, and what argparse says itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from gpuwatch.faces.help_words import pieces

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "src" / "gpuwatch" / "locale" / "zh_CN" / "LC_MESSAGES"
PO, MO = FOLDER / "gpuwatch.po", FOLDER / "gpuwatch.mo"
MARKERS = {"text", "_", "translate"}
ARGPARSE = (
    "usage: ",
    "positional arguments",
    "options",
    "show this help message and exit",
    "show program's version number and exit",
    "the following arguments are required: %s",
    "unrecognized arguments: %s",
    "invalid choice: %(value)r (choose from %(choices)s)",
    "expected one argument",
    "expected at least one argument",
    "invalid %(type)s value: %(value)r",
    "argument %(argument_name)s: %(message)s",
    "not allowed with argument %s",
    "ambiguous option: %(option)s could match %(matches)s",
    "expected at most one argument",
)


def strings() -> dict[str, str]:
    """Every English string that a person may see: the string, and the file it stands in first."""
    found: dict[str, str] = dict.fromkeys(ARGPARSE, "argparse")
    for folder in ("src/gpuwatch", "runner/gpuwatch_runner"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            place = str(path.relative_to(ROOT))
            for words in marked(tree):
                found.setdefault(words, place)
            if path.parent.name == "commands" and path.stem != "__init__":
                summary, _, body = (ast.get_docstring(tree) or "").partition("\n")
                for words in (summary, *(words for _, words in pieces(body.strip()) if words)):
                    found.setdefault(words, place)
    return found


def marked(tree: ast.AST) -> Iterator[str]:
    """The literals handed to a marker, also where a condition picks one of two."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in MARKERS:
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.strip():
                    yield part.value


def catalogue() -> Catalog:
    """The catalogue as it is committed."""
    if not PO.is_file():
        return Catalog(locale="zh_CN", project="gpuwatch", fuzzy=False)
    with PO.open("rb") as file:
        return read_po(file, locale="zh_CN")


def updated() -> Catalog:
    """The committed catalogue, brought up to the code: new strings empty, gone ones dropped."""
    before, after = catalogue(), Catalog(locale="zh_CN", project="gpuwatch", fuzzy=False)
    for words, place in sorted(strings().items(), key=lambda item: (item[1], item[0])):
        message = before.get(words)
        after.add(words, message.string if message else "", locations=[(place, None)])
    return after


def po_bytes(of: Catalog) -> bytes:
    """The catalogue as text, without dates, so that the same strings give the same file."""
    out = BytesIO()
    write_po(out, of, width=0, omit_header=True, include_lineno=False, sort_by_file=True)
    header = b'msgid ""\nmsgstr ""\n"Language: zh_CN\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'
    return header + out.getvalue()


def mo_bytes(of: Catalog) -> bytes:
    """The catalogue as the program reads it."""
    out = BytesIO()
    stripped = Catalog(locale="zh_CN", project="gpuwatch", fuzzy=False)
    stripped.creation_date = datetime(2026, 1, 1, tzinfo=UTC)  # babel writes it into the file: let it be the same
    stripped.mime_headers = [("Content-Type", "text/plain; charset=utf-8")]
    for message in of:
        if message.id and message.string:
            stripped.add(message.id, message.string)
    write_mo(out, stripped)
    return out.getvalue()


def main() -> None:
    new = updated()
    FOLDER.mkdir(parents=True, exist_ok=True)
    PO.write_bytes(po_bytes(new))
    MO.write_bytes(mo_bytes(new))
    missing = [str(message.id) for message in new if message.id and not message.string]
    print(f"{len(strings())} strings, {len(missing)} without Chinese")


if __name__ == "__main__":
    main()
