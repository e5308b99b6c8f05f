"""The time, for every adapter that stamps what it observes; injected where a test wants to say what time it is."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The time, aware, UTC."""
    return datetime.now(UTC)
