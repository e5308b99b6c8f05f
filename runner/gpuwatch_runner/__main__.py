"""`python -m gpuwatch_runner ddcolor ...`: what is wrong becomes an event and an exit code, never a traceback on stdout.

Nothing heavy is imported until the arguments are read and the libraries are known to be there.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from types import FrameType

from gpuwatch.errors import GpuwatchError, JobError, UsageError
from gpuwatch.texts import language_of, plain, text, use
from gpuwatch_runner.command import Job, parse
from gpuwatch_runner.events import Channel, take_stdout

INTERRUPTED = 130
UNHEARD = 141
LIBRARIES = ("torch", "numpy", "PIL", "safetensors")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and give the exit code: 0, 2 or 4 as for gpuwatch, 128 and the signal if stopped, 141 if nobody listens."""
    for number in _ending():
        signal.signal(number, _stop)
    use(language_of(None))
    channel = take_stdout()
    try:
        try:
            return _run(parse(sys.argv[1:] if arguments is None else arguments), channel)
        except GpuwatchError as error:
            channel.say("error", exit_code=error.exit_code, message=error.message, hint=error.hint)
            return error.exit_code
    except BrokenPipeError:
        channel.hush()
        return UNHEARD
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(job: Job, channel: Channel) -> int:
    _require_libraries()
    # Waiting in a spin, torch's threads would take the cores from those that decode and encode: a pass took up to fifty
    # times as long. OpenMP reads this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if job.profile:
        # The profiler's own notes on stderr; torch reads these once, when it is imported.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    try:
        from gpuwatch_runner.job import Run  # noqa: PLC0415 - torch is imported here and not before
    except ImportError as error:
        traceback.print_exc()
        raise UsageError(
            text("The runner's libraries are there but cannot be imported: {reason}", reason=plain(str(error))),
            text('Install them again: pip install --force-reinstall "gpuwatch[runner]"'),
        ) from error
    try:
        return Run(job, channel).carry_out()
    except (GpuwatchError, BrokenPipeError):
        raise
    except Exception as error:
        raise _explained(error, job) from error


def _require_libraries() -> None:
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise UsageError(
            text("{names} is not installed, and runs need it", names=plain(", ".join(missing))),
            plain('pip install "gpuwatch[runner]"'),
        )


def _explained(error: Exception, job: Job) -> JobError:
    """Say what ended the run. The original words go to stderr as they are: a log source reads them there."""
    import torch  # noqa: PLC0415 - imported already where this can be reached

    if isinstance(error, torch.OutOfMemoryError):
        sys.stderr.write("".join(traceback.format_exception_only(error)))
        sys.stderr.flush()
        return JobError(
            text("GPU memory ran out at {size_px}, batch {batch}", size_px=job.size_px, batch=job.batch),
            text("Use --rewrite fold, a smaller --size or --batch, or --dtype fp16"),
        )
    traceback.print_exception(error)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return JobError(
            text("Host memory ran out at {size_px}, batch {batch}", size_px=job.size_px, batch=job.batch),
            text("Use --rewrite fold, or a smaller --size or --batch"),
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return JobError(text("The run failed: {reason}", reason=plain(reason)))


def _ending() -> list[signal.Signals]:
    """The signals to stop at: a hang-up too, unless `nohup` had it ignored."""
    hang_up = getattr(signal, "SIGHUP", signal.SIGTERM)
    return [signal.SIGTERM, signal.SIGINT, *([] if signal.getsignal(hang_up) is signal.SIG_IGN else [hang_up])]


def _stop(number: int, _frame: FrameType | None) -> None:
    """Stop at the first signal; one that follows finds the run putting its things away, and does not stop that."""
    for each in _ending():
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
