"""What ends gpuwatch in order: Ctrl-C, SIGTERM, and the hang-up that a closed terminal or a lost connection sends.

In order means: what was started is ended, what was half written is taken away. The screen has its own way, in `tui/shell.py`.
"""

from __future__ import annotations

import signal


def ending_signals() -> tuple[signal.Signals, ...]:
    """The signals to end at; not the hang-up where `nohup` had it ignored, or where the system knows none."""
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is None or signal.getsignal(hang_up) is signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, hang_up
