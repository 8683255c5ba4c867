"""The command `dualexport`, also `python -m dualexport`: it ends tidily at any moment, while it is imported too."""

from __future__ import annotations

import signal
import sys
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def main() -> None:
    """Run the command line; SIGTERM and SIGHUP clean up like Ctrl-C, and are the exit code: 143, 129 and 130."""
    ended_by = int(signal.SIGINT)

    def end(number: int, _: FrameType | None) -> None:
        nonlocal ended_by
        ended_by = number
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)  # cleaning up is not interrupted
        raise KeyboardInterrupt

    code: object = 128 + ended_by
    try:
        for number in ENDING:
            if signal.getsignal(number) == signal.SIG_DFL:  # under nohup SIGHUP is ignored, and stays so
                signal.signal(number, end)
        from .cli import main as run_command_line  # noqa: PLC0415  # it takes time: Ctrl-C may come

        run_command_line()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was begun\n")
    if signal.getsignal(signal.SIGINT) is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is nothing left to interrupt
    sys.exit(128 + ended_by if code == 128 + signal.SIGINT else code)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
