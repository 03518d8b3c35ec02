"""A filter of system calls for the sandbox: those that no tested program needs are refused (EPERM)."""

from __future__ import annotations

import platform
import struct

REFUSED: dict[str, tuple[int, str]] = {
    "x86_64": (
        0xC000003E,
        # shmget shmat shmctl semget msgget ptrace mount umount2 pivot_root chroot unshare setns process_vm_readv
        (
            "29 30 31 64 68 101 165 166 155 161 272 308 310 "
            # process_vm_writev memfd_create add_key request_key keyctl bpf perf_event_open userfaultfd io_uring_setup
            "311 319 248 249 250 321 298 323 425 "
            # open_by_handle_at fsopen open_tree move_mount fsmount kcmp swapon reboot (f)init_module memfd_secret
            "304 430 428 429 432 312 167 169 175 313 447"
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            "194 196 195 190 186 117 40 39 41 51 97 268 270 "
            "271 279 217 218 219 280 241 282 425 "
            "265 430 428 429 432 272 224 142 105 273 447"
        ),
    ),
}
"""By machine: the name of its calling convention in the kernel, and numbers of calls."""
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050001
X32 = 0x40000000
"""Calls of another convention on the same machine start here."""


def filter_for(machine: str = "") -> bytes:
    """The program for the kernel (classic BPF); nothing where this machine's numbers are not known."""
    known = REFUSED.get(machine or platform.machine())
    if known is None:
        return b""
    convention, calls = known
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, convention), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    steps += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, REFUSE)]
    for call in map(int, calls.split()):
        steps += [(EQUAL, 0, 1, call), (RETURN, 0, 0, REFUSE)]
    steps.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
