"""How each kind of receiver wants a notice: our own JSON, or a message of a chat.

Of chats only what they document: plain text, in their limits, in which nothing that a log says becomes a mention or a link. No
chat was there to try them on.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from gpuwatch.adapters.webhook import Complaint, Parcel, Shape, Target, signature
from gpuwatch.core.notices import Notice
from gpuwatch.faces.notice_page import notice_json, notice_lines
from gpuwatch.faces.report import json_line

_MOST_CHAT_BYTES = 1900
"""Below the least of their limits: WeCom takes 2,048 bytes, Discord 2,000 characters."""


@dataclass(frozen=True, slots=True)
class Own:
    """Our own JSON, signed as the Standard Webhooks specification says."""

    name: str = "json"

    def parcel(self, notice: Notice, at: datetime, secret: bytes | None) -> Parcel:
        """The JSON, with the signature in headers."""
        body = json_line(notice_json(notice)).encode("utf-8", "replace")
        return Parcel(body, headers=signature(notice.id, at, body, secret) if secret is not None else {})

    def complaint(self, answer: bytes) -> Complaint | None:
        """The status says it all."""
        del answer
        return None


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat's incoming webhook: one text message a notice."""

    name: str
    message: Callable[[str], dict[str, Any]]
    hosts: tuple[str, ...]
    """Its own addresses begin with these."""
    sign: Callable[[datetime, bytes], tuple[dict[str, str], str]] = lambda _at, _secret: ({}, "")
    """What its own kind of signature adds to the message and to the address."""
    code: str | None = None
    """The field of its answers that is 0 where all is well; a status of 200 means little there."""
    busy: frozenset[int] = frozenset()
    """The codes for too much at once."""

    def parcel(self, notice: Notice, at: datetime, secret: bytes | None) -> Parcel:
        """The message."""
        members, query = self.sign(at, secret) if secret is not None else ({}, "")
        words = clipped("\n".join(notice_lines(notice)))
        return Parcel(
            json.dumps({**members, **self.message(words)}, ensure_ascii=False).encode("utf-8", "replace"), query
        )

    def complaint(self, answer: bytes) -> Complaint | None:
        """What its answer says, where its code is not 0."""
        if self.code is None:
            return None
        try:
            told = json.loads(answer)
        except (ValueError, RecursionError):
            return None
        code = told.get(self.code) if isinstance(told, dict) else None
        if not isinstance(code, int) or code == 0:
            return None
        return Complaint(f"{self.code} {code} {told.get('msg') or told.get('errmsg') or ''}".strip(), code in self.busy)


def slack(words: str) -> dict[str, Any]:
    """Slack reads &, < and > as its own; mentions need the last two."""
    return {"text": words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def discord(words: str) -> dict[str, Any]:
    """Nobody is mentioned, whatever the words say."""
    return {"content": words, "allowed_mentions": {"parse": []}}


def feishu(words: str) -> dict[str, Any]:
    """Its mentions are tags: no tag begins."""
    return {"msg_type": "text", "content": {"text": words.replace("<", "＜")}}


def feishu_sign(at: datetime, secret: bytes) -> tuple[dict[str, str], str]:
    """HMAC-SHA256 of nothing under the key of time and secret, in the message."""
    seconds = str(int(at.timestamp()))
    digest = hmac.digest(seconds.encode() + b"\n" + secret, b"", hashlib.sha256)
    return {"timestamp": seconds, "sign": base64.b64encode(digest).decode()}, ""


def dingtalk(words: str) -> dict[str, Any]:
    """Nobody is mentioned."""
    return {"msgtype": "text", "text": {"content": words}, "at": {"isAtAll": False}}


def dingtalk_sign(at: datetime, secret: bytes) -> tuple[dict[str, str], str]:
    """HMAC-SHA256 of time and secret under the secret, in the address; milliseconds."""
    told = str(int(at.timestamp() * 1000))
    digest = hmac.digest(secret, told.encode() + b"\n" + secret, hashlib.sha256)
    return {}, urlencode({"timestamp": told, "sign": base64.b64encode(digest).decode()})


def wecom(words: str) -> dict[str, Any]:
    """Its mentions are tags: no tag begins."""
    return {"msgtype": "text", "text": {"content": clipped(words.replace("<", "＜"))}}


OWN = Own()
CHATS: Mapping[str, Chat] = {
    chat.name: chat
    for chat in (
        Chat("slack", slack, ("hooks.slack.com/",)),
        Chat("discord", discord, ("discord.com/api/webhooks/", "discordapp.com/api/webhooks/")),
        Chat(
            "feishu",
            feishu,
            ("open.feishu.cn/open-apis/bot/", "open.larksuite.com/open-apis/bot/"),
            feishu_sign,
            "code",
            frozenset({11232}),
        ),
        Chat("dingtalk", dingtalk, ("oapi.dingtalk.com/robot/",), dingtalk_sign, "errcode", frozenset({130101})),
        Chat("wecom", wecom, ("qyapi.weixin.qq.com/cgi-bin/webhook/",), code="errcode", busy=frozenset({45009})),
    )
}


def shape_for(name: str, target: Target) -> Shape:
    """The shape of that name; `auto` knows the chats' own addresses, and means JSON for any other."""
    if name == "json":
        return OWN
    if name != "auto":
        return CHATS[name]
    address = target.host + target.path
    return next((chat for chat in CHATS.values() if address.startswith(chat.hosts)), OWN)


def clipped(words: str) -> str:
    """As much of the words as a chat takes, whole characters."""
    data = words.encode("utf-8", "replace")
    if len(data) <= _MOST_CHAT_BYTES:
        return words
    return data[: _MOST_CHAT_BYTES - 3].decode("utf-8", "ignore") + "…"
