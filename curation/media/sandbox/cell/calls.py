"""Which system calls a decoder needs once its libraries are loaded, and their numbers: the list of `seccomp`.

An allow-list, because what is forgotten on a list of dangers is a hole, and what is forgotten here is a decoder that
fails in the tests. What a newer libc may try first (numbers from 424 on, the same on every architecture) is answered as
not implemented, so that libc falls back to the older call that is on the list; all else is "not permitted".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NEWER = 424
"""The first number that all architectures share (Linux 5.1): pidfds, io_uring, clone3, openat2, Landlock and later."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Allows a call only where `argument & mask == value`; a mask of 64 bits compares the whole register."""

    argument: int
    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """A call that is answered where all of the conditions hold."""

    name: str
    conditions: tuple[Condition, ...] = ()


_ALL = (1 << 64) - 1
_WRITES = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC and O_TMPFILE's own bit, which are the same on both architectures."""

_THREAD = 0x100 | 0x10000
"""CLONE_VM and CLONE_THREAD: a thread of this process, not a process."""

_PLAIN = """
read write readv writev pread64 preadv close lseek fstat newfstatat statx stat lstat access faccessat readlink
readlinkat getcwd getdents64 dup dup2 dup3 fadvise64 recvmsg recvfrom poll ppoll select pselect6
mmap munmap mprotect mremap madvise brk mincore membarrier futex set_robust_list rseq exit exit_group
gettid getpid getppid sched_yield sched_getaffinity rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall
clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrandom getrusage getrlimit sysinfo uname
getuid geteuid getgid getegid getcpu
""".split()

_GPU = """
ioctl openat open memfd_create ftruncate mlock munlock mbind set_mempolicy get_mempolicy sched_setaffinity
sched_getparam sched_getscheduler eventfd2 pipe2 epoll_create1 epoll_ctl epoll_wait epoll_pwait statfs fstatfs
""".split()
"""What a GPU's driver needs besides. Opening for writing is left to Landlock there, which knows the device nodes."""

_FCNTL = (0, 1, 2, 3, 4, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: none that names a process to be signalled."""

_PRCTL = (15, 16, 0x53564D41)
"""PR_SET_NAME, PR_GET_NAME, PR_SET_VMA (libc names its memory)."""


def allowed(gpu: bool, pid: int) -> tuple[Allowed, ...]:
    """The whole list for the process `pid`; a call that stands twice needs to meet one of its entries."""
    plain = tuple(Allowed(name) for name in _PLAIN)
    conditional = (
        Allowed("openat", (Condition(2, _WRITES, 0),)),
        Allowed("open", (Condition(1, _WRITES, 0),)),
        Allowed("clone", (Condition(0, _THREAD, _THREAD),)),
        Allowed("tgkill", (Condition(0, _ALL, pid),)),
        Allowed("prlimit64", (Condition(0, _ALL, 0), Condition(2, _ALL, 0))),  # looks at limits of its own, sets none
        *(Allowed("fcntl", (Condition(1, 0xFFFFFFFF, command),)) for command in _FCNTL),
        *(Allowed("prctl", (Condition(0, 0xFFFFFFFF, option),)) for option in _PRCTL),
    )
    return (*plain, *conditional, *(Allowed(name) for name in _GPU if gpu))


_TABLE = """
read 0 63, write 1 64, open 2 -, close 3 57, stat 4 -, fstat 5 80, lstat 6 -, poll 7 -, lseek 8 62, mmap 9 222,
mprotect 10 226, munmap 11 215, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135,
rt_sigreturn 15 139, ioctl 16 29,
pread64 17 67, readv 19 65, writev 20 66, access 21 -, select 23 -, sched_yield 24 124, mremap 25 216, mincore 27 232,
madvise 28 233, dup 32 23, dup2 33 -, nanosleep 35 101, getpid 39 172, recvfrom 45 207, recvmsg 47 212, clone 56 220,
exit 60 93, uname 63 160, fcntl 72 25, ftruncate 77 46, getcwd 79 17, readlink 89 -, gettimeofday 96 169,
getrlimit 97 163, getrusage 98 165, sysinfo 99 179, times 100 153, getuid 102 174, getgid 104 176, geteuid 107 175,
getegid 108 177, getppid 110 173, sigaltstack 131 132, mlock 149 228, munlock 150 229, prctl 157 167, gettid 186 178,
time 201 -, futex 202 98, sched_setaffinity 203 122, sched_getaffinity 204 123, getdents64 217 61,
restart_syscall 219 128, fadvise64 221 223, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115,
exit_group 231 94, tgkill 234 131, mbind 237 235, set_mempolicy 238 237, get_mempolicy 239 236, openat 257 56,
newfstatat 262 79, readlinkat 267 78, faccessat 269 48, pselect6 270 72, ppoll 271 73, set_robust_list 273 99,
eventfd2 290 19, dup3 292 24, preadv 295 69, prlimit64 302 261, getcpu 309 168, getrandom 318 278,
memfd_create 319 279, sched_getparam 143 121, sched_getscheduler 145 120, pipe2 293 59, epoll_create1 291 20,
epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, statfs 137 43, fstatfs 138 44,
membarrier 324 283, statx 332 291, rseq 334 293
"""


def _numbers(column: int) -> Mapping[str, int]:
    rows = (row.split() for row in _TABLE.split(","))
    return MappingProxyType({row[0]: int(row[column]) for row in rows if row[column] != "-"})


X86_64 = _numbers(1)
AARCH64 = _numbers(2)
"""Call numbers of Linux by name (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)."""
