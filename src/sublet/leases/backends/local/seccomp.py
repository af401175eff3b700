"""The system calls that no tenant may make, as a classic BPF program for bubblewrap's --seccomp.

A denylist with EPERM, over the native architecture only; any other one (32-bit calls on a 64-bit kernel) kills the caller.
Numbers: the kernel's syscall_64.tbl and asm-generic/unistd.h. Format: struct sock_filter, Documentation/networking/filter.rst.
"""

from __future__ import annotations

import errno
import os
import platform
import struct

from sublet.leases.backends.base import IsolationUnavailableError

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

# name: (x86_64, aarch64). From 424 on, all architectures share one numbering.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "sched_setaffinity": (203, 122),
    "syslog": (103, 116),
    "acct": (163, 89),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "quotactl": (179, 60),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "setns": (308, 268),
    "perf_event_open": (298, 241),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "iopl": (172, None),
    "ioperm": (173, None),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
# AF_UNIX, AF_INET, AF_INET6, AF_NETLINK live in the sandbox's own network namespace. Others don't: AF_VSOCK reaches the
# hypervisor from any namespace, AF_ALG the host's crypto drivers.
_FAMILIES = (1, 2, 10, 16)

_LOAD_WORD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000


def program(*, deny_affinity: bool, machine: str | None = None) -> bytes:
    """The filter. `deny_affinity` also refuses sched_setaffinity, for hosts where no cpuset keeps the tenant on its cores.

    Raises IsolationUnavailableError for a machine whose system call numbers are not known here.
    """
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise IsolationUnavailableError(
            f"there is no system call filter for {machine}; offer raw leases on x86_64 or aarch64 machines"
        )
    column = list(_ARCHITECTURES).index(machine)
    denied = [numbers[column] for name, numbers in _NUMBERS.items() if deny_affinity or name != "sched_setaffinity"]
    code = [
        _instruction(_LOAD_WORD, 0, 0, 4),
        _instruction(_JUMP_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        _instruction(_RETURN, 0, 0, _KILL_PROCESS),
        _instruction(_LOAD_WORD, 0, 0, 0),
    ]
    if machine == "x86_64":
        code += [
            _instruction(_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT),
            _instruction(_RETURN, 0, 0, _ERRNO | errno.EPERM),
        ]
    for number in denied:
        if number is not None:
            code += [
                _instruction(_JUMP_EQUAL, 0, 1, number),
                _instruction(_RETURN, 0, 0, _ERRNO | errno.EPERM),
            ]
    families = _families_check()
    code += [
        _instruction(_JUMP_EQUAL, 1, 0, _SOCKET[machine]),
        _instruction(_JUMP_EQUAL, 0, len(families), _SOCKETPAIR[machine]),
        *families,
        _instruction(_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(code)


def _families_check() -> list[bytes]:
    count = len(_FAMILIES)
    checks = [_instruction(_JUMP_EQUAL, count - index, 0, family) for index, family in enumerate(_FAMILIES)]
    return [
        _instruction(_LOAD_WORD, 0, 0, 16),
        *checks,
        _instruction(_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT),
    ]


def program_fd(code: bytes) -> int:
    """A readable descriptor that yields `code` and then ends; the caller closes it."""
    reading, writing = os.pipe()
    try:
        os.write(writing, code)
    finally:
        os.close(writing)
    return reading


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
