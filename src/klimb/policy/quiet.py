"""Transformers without its progress bars and warnings: klimb says what happens itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as hf_logging

logging: Any = hf_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Within this, transformers writes nothing below an error; afterwards it is as it was."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
