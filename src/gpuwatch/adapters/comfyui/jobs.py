"""Which jobs have ended since we asked last: each once, over restarts, lists that grow long, and a history that lags."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.reading import (
    LONGEST_MESSAGE,
    Ended,
    ended_entries,
    ended_entry,
    ended_job,
    ended_jobs,
    items,
    part,
    words_of,
)
from gpuwatch.core.joining import says

_PAGE = 8
_MOST_PAGES = 32
_MOST_ENTRIES = 256
_MOST_SEEN = 20_000
_LOOKS = 4
"""How often a job that is in no list any more is asked for by its id: one that was deleted leaves no trace."""
_OVER = "completed,failed,cancelled"
_MOST_OLDER = 64
"""How far back the job of a failure is looked for that the server's log still tells."""


class JobFeed:
    """Asks a server for its ended jobs: /api/jobs where it has that, /history where not."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lists_jobs: bool | None = None
        self._seen: OrderedDict[tuple[str, int | None], None] = OrderedDict()
        self._began = False
        self._met: frozenset[tuple[str, int | None]] = frozenset()
        """What was listed when we came, and below, when the last of it had ended."""
        self._met_ms = 0
        self._expected: dict[str, int] = {}
        self._running: frozenset[str] = frozenset()

    @property
    def lists_jobs(self) -> bool | None:
        """Whether the server has /api/jobs; None before it was asked."""
        return self._lists_jobs

    @property
    def waits(self) -> bool:
        """Whether a job that ran is neither running nor listed yet."""
        return bool(self._expected)

    def server_changed(self) -> None:
        """The server may be another version now."""
        self._lists_jobs = None
        self._running = frozenset()
        self._expected.clear()

    def running(self, ids: Iterable[str]) -> bool:
        """Tell which jobs run now; whether others ran before."""
        now = frozenset(ids)
        gone = self._running - now
        for id_ in gone:
            self._expected[id_] = _LOOKS
        self._running = now
        return bool(gone)

    def take(self, told: Sequence[str] = ()) -> list[tuple[Ended, bool]]:
        """The jobs that ended since the last call, each with whether it ended while we were here; these the oldest first.

        Those from before we came are the newest few, newest first, and further back those of the failures that the server's
        log still tells. `told`: their lines.
        """
        first, self._began = not self._began, True
        listed = self._listed(first=first)
        if first:
            listed += self._older(listed, told)
        # Where jobs end while page after page is asked for, those of one page come up again in the next.
        once = {(ended.job_id, ended.ended_ms): ended for ended in listed}
        new = [ended for key, ended in once.items() if key not in self._seen]
        new += self._missing(new)
        for ended in new:
            self._seen[ended.job_id, ended.ended_ms] = None
        while len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
        new.sort(key=lambda ended: ended.ended_ms or 0, reverse=first)
        if first:
            self._met = frozenset((ended.job_id, ended.ended_ms) for ended in listed)
            self._met_ms = max((ended.ended_ms or 0 for ended in listed), default=0)
        # Behind what was listed when we came stand older ones that were not: they come up where a list is read further.
        same_life = any((ended.job_id, ended.ended_ms) in self._met for ended in listed)
        oldest_ms = self._met_ms if same_life else 0
        return [(ended, not first and (ended.ended_ms is None or ended.ended_ms > oldest_ms)) for ended in new]

    def whole(self, ended: Ended) -> Ended:
        """The job with its workflow, where its list left that out and the server still has it."""
        if ended.prompt or not self._lists_jobs:
            return ended
        found = self._one(ended.job_id)
        return replace(ended, prompt=found.prompt) if found is not None else ended

    def _listed(self, *, first: bool) -> list[Ended]:
        if self._lists_jobs is not False:
            try:
                found = self._pages(first=first)
            except NoAnswerError as error:
                if not error.absent:
                    raise
                self._lists_jobs = False
            else:
                self._lists_jobs = True
                return found
        return self._entries(first=first)

    def _pages(self, *, first: bool) -> list[Ended]:
        """Page by page, until one holds nothing new."""
        found: list[Ended] = []
        for page in range(_MOST_PAGES):
            answer = self._page(_OVER, page * _PAGE)
            jobs = ended_jobs(answer)
            found += jobs
            if first or not _has_more(answer) or not any((job.job_id, job.ended_ms) not in self._seen for job in jobs):
                break
        return found

    def _page(self, status: str, offset: int) -> Any:
        return self._client.get(
            "/api/jobs", status=status, sort_by="created_at", sort_order="desc", limit=_PAGE, offset=offset
        )

    def _entries(self, *, first: bool) -> list[Ended]:
        """The newest entries: twice as many while all of them are new, half as many where they are too large together."""
        most, too_many = _PAGE, _MOST_ENTRIES * 2
        while True:
            try:
                entries = ended_entries(answer := self._client.get("/history", max_items=most))
            except NoAnswerError as error:
                if error.trouble != "too_large" or most == 1:
                    raise
                too_many, most = most, most // 2
                continue
            known = any((entry.job_id, entry.ended_ms) in self._seen for entry in entries)
            whole = not isinstance(answer, dict) or len(answer) < most
            if first or known or whole or most * 2 >= too_many:
                return entries
            most *= 2

    def _older(self, listed: Iterable[Ended], told: Sequence[str]) -> list[Ended]:
        """The jobs further back than those listed that ended in a failure which the log tells."""
        left = list(told)
        known: set[tuple[str, int | None]] = set()
        for ended in listed:
            _take_told(left, ended)
            known.add((ended.job_id, ended.ended_ms))
        found: list[Ended] = []
        try:
            for ended in self._further_back() if left else ():
                key = ended.job_id, ended.ended_ms
                if key not in known and _take_told(left, ended):
                    found.append(ended)
                known.add(key)
                if not left:
                    break
        except NoAnswerError as error:
            if not error.lives:
                raise
        return found

    def _further_back(self) -> Iterator[Ended]:
        """Jobs, the newest first, as far back as is asked for; some of them several times."""
        if self._lists_jobs:
            for offset in range(0, _MOST_OLDER, _PAGE):
                answer = self._page("failed", offset)
                yield from ended_jobs(answer)
                if not _has_more(answer):
                    return
        most = _PAGE
        while not self._lists_jobs and most < _MOST_OLDER:
            most *= 2
            yield from ended_entries(answer := self._client.get("/history", max_items=most))
            if not isinstance(answer, dict) or len(answer) < most:
                return

    def _missing(self, new: Iterable[Ended]) -> list[Ended]:
        """Those that ran, and that the newest of the list do not hold: asked for one by one."""
        for ended in new:
            self._expected.pop(ended.job_id, None)
        found: list[Ended] = []
        for id_ in list(self._expected):
            self._expected[id_] -= 1
            if not self._expected[id_]:
                del self._expected[id_]
            one = self._one(id_)
            if one is not None and (one.job_id, one.ended_ms) not in self._seen:
                self._expected.pop(id_, None)
                found.append(one)
        return found

    def _one(self, id_: str) -> Ended | None:
        try:
            if self._lists_jobs:
                return ended_job(self._client.get(f"/api/jobs/{id_}"))
            answer = self._client.get(f"/history/{id_}")
        except NoAnswerError as error:
            if error.absent or error.trouble == "too_large":
                return None
            raise
        return ended_entry(id_, answer[id_]) if isinstance(answer, dict) and id_ in answer else None


def _has_more(answer: Any) -> bool:
    return part(answer, "pagination").get("has_more") is True and bool(items(answer, "jobs"))


def _take_told(told: list[str], ended: Ended) -> bool:
    """Take the last line out that tells of this job's end; whether there was one."""
    message = words_of(ended.error.get("exception_message"), LONGEST_MESSAGE)
    if message is not None:
        for place in reversed(range(len(told))):
            if says(told[place], message):
                del told[place]
                return True
    return False
