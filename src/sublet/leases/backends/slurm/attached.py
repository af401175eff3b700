"""A lease's shim that ends when the process ends that started it.

python -m sublet.leases.backends.slurm.attached LEASE_DIRECTORY PARENT
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from sublet.leases.backends.local import shim

_PR_SET_PDEATHSIG = 1


def main(directory: str, parent: int) -> None:
    """SIGTERM has a shim stop its sandbox and keep the tenant's files."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == parent:
        shim.main(directory)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
