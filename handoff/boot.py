"""What the operating system says of the machine's last start."""

from __future__ import annotations

from pathlib import Path

# Linux makes a new one at each start; containers see their machine's.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Which start of the machine this is; empty where the system does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
