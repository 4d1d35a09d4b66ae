"""Runs a program that gets no user namespaces, as under most containers' seccomp profiles: `python without_namespaces.py PROGRAM …`."""

import ctypes
import errno
import os
import struct
import sys

#: Of linux/prctl.h, linux/seccomp.h and linux/filter.h.
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, IS, HAS, ANSWER = 0x20, 0x15, 0x45, 0x06
ALLOW, FAIL = 0x7FFF_0000, 0x0005_0000
CLONE_NEWUSER = 0x1000_0000
#: clone, unshare and clone3 by processor. The third has its flags behind a pointer: without it libraries use the first.
CALLS = {"x86_64": (56, 272, 435), "aarch64": (220, 97, 435)}


def instructions() -> list[tuple[int, int, int, int]]:
    """What each system call is asked: a code, lines to skip if so and if not, an operand."""
    clone, unshare, clone3 = CALLS[os.uname().machine]
    return [
        (LOAD, 0, 0, 0),
        (IS, 5, 0, clone3),
        (IS, 1, 0, clone),
        (IS, 0, 4, unshare),
        (LOAD, 0, 0, 16),
        (HAS, 0, 2, CLONE_NEWUSER),
        (ANSWER, 0, 0, FAIL | errno.EPERM),
        (ANSWER, 0, 0, FAIL | errno.ENOSYS),
        (ANSWER, 0, 0, ALLOW),
    ]


class Filter(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def forbid() -> None:
    """Takes them from this process and all that come from it."""
    lines = instructions()
    libc = ctypes.CDLL(None, use_errno=True)
    program = Filter(len(lines), b"".join(struct.pack("HBBI", *line) for line in lines))
    for request in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*request):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forbid()
    os.execvp(sys.argv[1], sys.argv[1:])
