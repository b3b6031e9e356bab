"""Run the command line: ``python -m monai_cryo VERB``."""

from __future__ import annotations

import sys

from monai_cryo.cli import main

sys.exit(main())
