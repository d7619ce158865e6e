"""What the commands share: one line for an error, a counter for long work."""

import os
import sys
from collections.abc import Callable

from pumpseg.errors import PumpsegError

USAGE_ERROR = 2
INTERRUPTED = 130


def run_command(name: str, action: Callable[[], None], if_interrupted: str = "interrupted") -> int:
    """Runs a command's action; returns 0, 2 on bad input (one line on stderr), 130 on Ctrl-C."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets at length otherwise
    try:
        action()
    except ModuleNotFoundError as error:
        extra = "export" if error.name in ("onnx", "tf2onnx") else "train"
        print(f'{name}: error: {error}: pip install "pumpseg[{extra}]"', file=sys.stderr)
        return USAGE_ERROR
    except PumpsegError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"{name}: {if_interrupted}", file=sys.stderr)
        return INTERRUPTED
    return 0


def counter(what: str) -> Callable[[int, int], None]:
    """A counter on stderr: one line that is rewritten on a terminal, a line every tenth elsewhere."""
    terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if terminal:
            print(f"\r{done}/{total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done * 10 // total > (done - 1) * 10 // total:
            print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    return show
