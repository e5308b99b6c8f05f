"""Lines that speak of failures and report none: commits, changelogs, advice, a metric's sample, what a picture is to show.

People and programs paste them into logs, and a rule's patterns cannot tell them from a message, so no rule is asked about them.
What only one rule can tell, a retry that follows say, is left to its `unless`.
"""

from __future__ import annotations

import re

_COMMIT = re.compile(
    rb"[\s*|/\\_-]{0,12}(?=[0-9a-f]{0,39}[a-f])(?=[0-9a-f]{0,39}\d)[0-9a-f]{7,40} (?:\([^)\n]{1,200}\) )?"
    rb"(?:(?i:(?:bug)?fix|feat|chore|docs?|test|ci|add|allow|avoid|bump|catch|change|clamp|clean|detect|disable|don't|enable|handle|"
    rb"implement|improve|increase|log|make|merge|prevent|raise|reduce|refactor|remove|report|retry|revert|show|skip|support|"
    rb"update|use|warn|workaround)(?:e?s|ed|d|ing)?\b|[^\n]{1,300}#\d{1,6}\)?\s*\Z)"
)
"""`git log --oneline`, with a graph or without."""
_NOTE = re.compile(
    rb"(?i)\W{0,6}(?:(?:bug)?fix(?:e[sd])?\b|work-?arounds?\b|(?:docs?|feat|chore|readme|changelog|tips?)\b[^:\n]{0,20}:|"
    rb"see (?:the )?(?:faq|wiki|docs)\b|(?:FYI|note:?|(?<!\[)hint:?|ps:?|btw|by the way)[ ,]|"
    rb"if (?:you|it|this) (?:get|see|says?|fails?|happens?)\b)|"
    rb"\s{0,8}[-*] (?:no more|(?:add|avoid|catch|detect|eliminat|handl|implement|improv|introduc|limit|mitigat|prevent|remov|"
    rb"resolv)(?:e|es|s|ed|ing)?)\b"
)
"""How a changelog's line, a note and advice begin. PaddlePaddle's `[Hint: ...` is the error itself."""
_ADVICE = re.compile(
    rb"(?i)\b(?:if|when(?:ever)?) you (?:see|get|encounter|hit|face|run into)\b[^\n.]{0,60}(?:error|CUDA|HIP|NCCL)"
)
_YOU = b" you "
_SAMPLE = re.compile(
    rb"# (?:HELP|TYPE|UNIT) [A-Za-z_:]|"
    rb"(?!\w{0,60}(?i:exit|code|status|signal|errno)\w{0,60} )"
    rb"(?:[A-Za-z:][A-Za-z0-9:]{0,60}_[\w:]{1,200}(?:\{[^\n]{0,4000}\})?|[A-Za-z_:][\w:]{2,200}\{[^\n]{0,4000}\})"
    rb" [-+]?(?:[\d.]+(?:e[-+]?\d+)?|NaN|Inf)(?: \d+)?\s*\Z"
)
"""A page of Prometheus' metrics: a name of several words, or with labels."""
_PROMPT = re.compile(
    rb"\W{0,4}(?:(?i:(?:positive|negative)(?:[ _]prompts?)?|prompts?|captions?)|"
    rb"(?:\xe6\xad\xa3[\x80-\xbf]{1,5}|\xe8\xb4\x9f[\x80-\xbf]{1,5}|\xe5\x8f\x8d[\x80-\xbf]{1,5})?\xe6\x8f\x90\xe7\xa4\xba\xe8\xaf\x8d)"
    rb"[\"']?\s?(?:[:=]|\xef\xbc\x9a)(?!.{0,2000}(?:Error|Exception|exception_message)\b)"
)
"""What a prompt says, as programs log it; in Chinese too."""
_ARGUMENTS = re.compile(rb"\W{0,6}Arguments: \((?:['\"]task\(|[^\n]{0,20000}\) \{[^\n{}]{0,400}\}\s*\Z)")
"""What Stable Diffusion WebUI was asked for, which it prints where that failed: the prompt and all settings."""
_INPUTS = b'"inputs"'
_CLASS = b'"class_type"'
_OUTCOMES = (b"exception_message", b"node_errors", b'"error"')
"""A workflow in the API's form holds prompts; where it came back with an outcome, that is a report."""


def is_talk(text: bytes) -> bool:
    """Whether a record's words are no report, whatever they say."""
    if _NOTE.match(text) or _COMMIT.match(text) or _SAMPLE.match(text) or _PROMPT.match(text):
        return True
    if _ARGUMENTS.match(text):
        return True
    if _YOU in text and _ADVICE.search(text):
        return True
    return _INPUTS in text and _CLASS in text and not any(outcome in text for outcome in _OUTCOMES)
