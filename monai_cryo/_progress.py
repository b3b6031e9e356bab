"""One kind of progress bar: drawn at once on a terminal, a line a minute where a log is kept."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(**options: Any) -> tqdm[Any]:
    """Return tqdm's bar on the error stream."""
    return tqdm(mininterval=0.1 if sys.stderr.isatty() else 60.0, ncols=100, **options)
