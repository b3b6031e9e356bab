"""Where picks and labels are cut if nothing else is said: what simulated tomograms, of which all is known, told.

`benchmarks/thresholds.py` finds them; docs/results.md has the figures.
"""

from __future__ import annotations

#: least score of a pick
MIN_SCORE = 0.6
#: least score of a labelled voxel
LABEL_THRESHOLD = 0.5
