"""The seccomp filter of the decoder's cell: a BPF program made from the allow-list in `calls`, and its loading.

One part of `confine`; Landlock is the other. The program looks at the architecture, the call's number and, for a
few calls, at arguments held in registers; it cannot follow a pointer, which is why names of files are Landlock's part.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from curation.media.sandbox.cell.calls import AARCH64, NEWER, X86_64, Allowed, Condition

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000
"""Set in the number of a call by the 32-bit-pointer interface of x86-64, where the same number is another call."""

_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _GET_ACTION_AVAILABLE = 38, 1, 2
_TO_ALL_THREADS = 1


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture: its AUDIT_ARCH number, its call numbers, and that of `seccomp` itself."""

    audit: int
    calls: Mapping[str, int]
    seccomp: int


MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(0xC000003E, X86_64, 317),
    "aarch64": Machine(0xC00000B7, AARCH64, 277),
}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step of classic BPF: `yes` and `no` are how many steps to skip."""

    code: int
    value: int
    yes: int = 0
    no: int = 0

    def packed(self) -> bytes:
        return struct.pack("HBBI", self.code, self.yes, self.no, self.value)


def available() -> bool:
    """Whether this kernel filters calls, on an architecture whose numbers are known."""
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return False
    action = ctypes.c_uint32(REFUSE)
    return _libc().syscall(machine.seccomp, _GET_ACTION_AVAILABLE, 0, ctypes.byref(action)) == 0


def load(rules: Sequence[Allowed]) -> None:
    """Filter all calls of this process from now on, in all of its threads; OSError where the kernel refuses."""
    machine = MACHINES[platform.machine()]
    code = b"".join(step.packed() for step in program(machine, rules))
    held = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a 16-bit count, then a pointer
    described = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(held)))
    libc = _libc()
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.syscall(machine.seccomp, _SET_MODE_FILTER, _TO_ALL_THREADS, described):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def program(machine: Machine, rules: Sequence[Allowed]) -> tuple[Instruction, ...]:
    """The filter: kill what speaks another architecture's numbers, allow the rules, refuse the rest."""
    steps = [
        Instruction(_LOAD, _ARCH_AT),
        Instruction(_JUMP_EQUAL, machine.audit, yes=1),
        Instruction(_RETURN, KILL),
        Instruction(_LOAD, _NUMBER_AT),
        Instruction(_JUMP_AT_LEAST, _X32, no=1),
        Instruction(_RETURN, KILL),
        Instruction(_JUMP_AT_LEAST, NEWER, no=1),
        Instruction(_RETURN, REFUSE | errno.ENOSYS),
    ]
    for rule in rules:
        if (number := machine.calls.get(rule.name)) is not None:
            steps += _rule(number, rule.conditions)
    return (*steps, Instruction(_RETURN, REFUSE | errno.EPERM))


def _rule(number: int, conditions: Sequence[Condition]) -> list[Instruction]:
    """Returns ALLOW for the call where the conditions hold; else falls through with the number loaded again."""
    body = [step for condition in conditions for half in (0, 32) for step in _half(condition, half)]
    checks: list[Instruction] = []
    for at, step in enumerate(body):
        # A failed comparison goes on behind the ALLOW that ends the rule.
        checks.append(Instruction(step.code, step.value, no=len(body) - at if step.code == _JUMP_EQUAL else 0))
    again = [Instruction(_LOAD, _NUMBER_AT)] if conditions else []
    inside = [*checks, Instruction(_RETURN, ALLOW), *again]
    return [Instruction(_JUMP_EQUAL, number, no=len(inside)), *inside]


def _half(condition: Condition, shift: int) -> Iterator[Instruction]:
    """Compares 32 bits of a 64-bit register; both architectures keep the low half first."""
    mask, value = (part >> shift & 0xFFFFFFFF for part in (condition.mask, condition.value))
    if mask:
        yield Instruction(_LOAD, _ARGUMENTS_AT + 8 * condition.argument + shift // 8)
        yield Instruction(_AND, mask)
        yield Instruction(_JUMP_EQUAL, value)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
