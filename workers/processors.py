"""How many processors the two stages have between them."""

from __future__ import annotations

import math
import os
from pathlib import Path

# Transcribing and analyzing go on side by side. Were each to use every processor, their threads would wait for each
# other's at every barrier: twice as many threads as processors take several times as long.
_NUM_STAGES = 2


def threads_per_worker(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Threads for the arithmetic of one stage: half of what this process may use, as affinity and container allow."""
    num_processors = len(os.sched_getaffinity(0))
    if cpu_max.is_file():
        quota, period = cpu_max.read_text().split()
        if quota != "max":
            num_processors = min(num_processors, math.ceil(int(quota) / int(period)))
    return max(1, num_processors // _NUM_STAGES)
