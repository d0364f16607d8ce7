"""Lightning as a guest: silent, and leaving the process's signals as it found them."""

import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator

from lightning.pytorch import Trainer

__all__ = ["interruptible", "quiet"]


@contextlib.contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C through: Lightning would turn it into an exit and leave the process deaf to the next one."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from stop
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's banners and advice from the log and the warnings; errors still come through."""
    names = (
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities.rank_zero",
        "lightning.pytorch.accelerators.cuda",
    )
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
