"""What identifies a person or a machine, taken out of words that leave it: paths of a home, users, hosts, addresses, secrets.

It knows shapes, not meanings: a name that stands alone in a sentence is left unless it was told. What was taken is counted, so
that whoever hands the words on can say so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_SECRET = re.compile(
    r"(?i)\b((?:[\w-]*(?:token|secret|password|passwd|api[_-]?key|auth(?:orization)?|cookie)[\w-]*)['\"]?\s*[:=]\s*['\"]?"
    r"(?:(?:bearer|basic)\s+)?)(?!\d+\b)([^\s'\",;)}\]]{3,400})"
)
_KNOWN_KEYS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|xox[abp]-[\w-]{10,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,})"
)
_USERINFO = re.compile(r"(?<=://)[^/@\s:]{1,200}(?::[^/@\s]{1,200})?@")
_HOME = re.compile(r"(?<![\w.])(/(?:home|Users)/|[A-Za-z]:\\{1,2}Users\\{1,2})([^/\\\s:'\"<>|]{1,64})", re.IGNORECASE)
_MAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+\b")
_ADDRESS = re.compile(r"(?<![\d.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_SHORTEST_NAME = 3


@dataclass(slots=True)
class Scrubber:
    """Takes out what identifies, and counts what it took."""

    users: Iterable[str] = ()
    hosts: Iterable[str] = ()
    taken: Counter[str] = field(default_factory=Counter)

    def __call__(self, words: str) -> str:
        """The words without it."""
        words = self._sub("secret", _SECRET, r"\1<secret>", words)
        words = self._sub("secret", _KNOWN_KEYS, "<secret>", words)
        words = self._sub("secret", _USERINFO, "<secret>@", words)
        words = self._sub("home path", _HOME, r"\1<user>", words)
        words = self._sub("mail address", _MAIL, "<mail>", words)
        words = self._sub("network address", _ADDRESS, "<address>", words)
        for kind, names in (("user name", self.users), ("host name", self.hosts)):
            for name in names:
                if len(name) >= _SHORTEST_NAME and name not in {"root", "localhost"}:
                    own = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
                    words = self._sub(kind, own, f"<{kind.split()[0]}>", words)
        return words

    def value(self, value: object) -> object:
        """A value of JSON, every string in it scrubbed."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(str(name)): self.value(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value

    def _sub(self, kind: str, pattern: re.Pattern[str], by: str, words: str) -> str:
        words, count = pattern.subn(by, words)
        if count:
            self.taken[kind] += count
        return words
