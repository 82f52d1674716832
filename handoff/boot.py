"""What the operating system says of the machine's last start."""

from __future__ import annotations

import time
from pathlib import Path

# Linux makes a new one at each start; containers see their machine's.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


# Linux's goes on while the machine is suspended, as the other systems' monotonic clock does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_id() -> str:
    """Which start of the machine this is; empty where the system does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def since_boot_s() -> float:
    """Seconds since that start, suspended or not, whatever happened to the calendar."""
    return time.clock_gettime(_CLOCK)
