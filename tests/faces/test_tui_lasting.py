"""A screen whose terminal is gone."""

from __future__ import annotations

import errno
import io

from textual.drivers._writer_thread import WriterThread

from gpuwatch.faces.tui.lasting import Lasting


class Gone(io.StringIO):
    """What stderr is once its terminal was closed."""

    def write(self, _words: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_what_is_drawn_on_a_terminal_that_is_gone_holds_nobody_up() -> None:
    thread = WriterThread(Lasting(Gone()))  # type: ignore[arg-type]  # a file, as far as the thread uses it
    thread.start()
    for _ in range(200):  # more than it lets wait
        thread.write("words")
    thread.stop()
    assert not thread.is_alive()


def test_what_can_be_written_is() -> None:
    shown = io.StringIO()
    lasting = Lasting(shown)
    assert lasting.write("words") == 5
    lasting.flush()
    assert shown.getvalue() == "words"
