"""The seccomp program, run by an interpreter of BPF: on both architectures it answers as the list says."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.sandbox.cell.calls import NEWER, Allowed, Condition, allowed
from curation.media.sandbox.cell.seccomp import ALLOW, KILL, MACHINES, REFUSE, Instruction, Machine, program

PID = 4242
EPERM, ENOSYS = REFUSE | errno.EPERM, REFUSE | errno.ENOSYS
MACHINE = st.sampled_from(sorted(MACHINES))
REGISTER = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2, PID, 0x10100, 1 << 32, 2**64 - 1]))


def answer(steps: tuple[Instruction, ...], audit: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would do: classic BPF over `struct seccomp_data`, little-endian."""
    data = struct.pack("<iIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    at = held = 0
    while True:
        step = steps[at]
        at += 1
        match step.code:
            case 0x20:
                (held,) = struct.unpack_from("<I", data, step.value)
            case 0x54:
                held &= step.value
            case 0x15:
                at += step.yes if held == step.value else step.no
            case 0x35:
                at += step.yes if held >= step.value else step.no
            case 0x06:
                return step.value
            case other:
                raise AssertionError(f"an instruction that is not used: {other:#x}")


def wanted(machine: Machine, rules: tuple[Allowed, ...], number: int, arguments: tuple[int, ...]) -> int:
    """The same from the list itself."""
    names = {name for name, known in machine.calls.items() if known == number}
    for rule in rules:
        if rule.name in names and all(arguments[c.argument] & c.mask == c.value for c in rule.conditions):
            return ALLOW
    return ENOSYS if number >= NEWER else EPERM


@given(MACHINE, st.booleans(), st.integers(0, 600), st.tuples(*[REGISTER] * 6))
def test_it_answers_as_the_list_says(name: str, gpu: bool, number: int, arguments: tuple[int, ...]) -> None:
    machine, rules = MACHINES[name], allowed(gpu, PID)
    assert answer(program(machine, rules), machine.audit, number, arguments) == wanted(
        machine, rules, number, arguments
    )


@given(MACHINE, st.data())
def test_calls_with_conditions_answer_as_the_list_says(name: str, data: st.DataObject) -> None:
    machine, rules = MACHINES[name], allowed(False, PID)
    numbers = sorted({machine.calls[rule.name] for rule in rules if rule.conditions and rule.name in machine.calls})
    number, arguments = data.draw(st.sampled_from(numbers)), data.draw(st.tuples(*[REGISTER] * 6))
    assert answer(program(machine, rules), machine.audit, number, arguments) == wanted(
        machine, rules, number, arguments
    )


@given(MACHINE, st.integers(0, 2**32 - 1), st.integers(0, 600))
def test_another_architectures_call_is_the_end(name: str, audit: int, number: int) -> None:
    machine = MACHINES[name]
    if audit != machine.audit:
        assert answer(program(machine, allowed(False, PID)), audit, number) == KILL
    assert answer(program(machine, allowed(False, PID)), machine.audit, 0x40000000 + number) == KILL


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_the_known_ways_out_are_shut_with_and_without_a_gpu(name: str) -> None:
    """By number, as the kernel's tables have them: a mistake in the list of names cannot hide one."""
    ways = {
        "x86_64": "socket 41 connect 42 sendto 44 sendmsg 46 socketpair 53 fork 57 vfork 58 execve 59 kill 62 "
        "ptrace 101 mount 165 tkill 200 io_setup 206 unshare 272 perf_event_open 298 setns 308 process_vm_readv 310 "
        "process_vm_writev 311 seccomp 317 bpf 321 execveat 322 userfaultfd 323 pkey_mprotect 329 unlink 87 rename 82 "
        "chmod 90 keyctl 250 creat 85 truncate 76 setrlimit 160 shmget 29 capset 126",
        "aarch64": "socket 198 connect 203 sendto 206 sendmsg 211 socketpair 199 execve 221 kill 129 tkill 130 "
        "ptrace 117 mount 40 unshare 97 perf_event_open 241 setns 268 process_vm_readv 270 process_vm_writev 271 "
        "seccomp 277 bpf 280 execveat 281 userfaultfd 282 unlinkat 35 renameat 38 fchmodat 53 keyctl 219 truncate 45 "
        "setrlimit 164 shmget 194 capset 91",
    }
    machine = MACHINES[name]
    numbers = {word: int(number) for word, number in zip(*[iter(ways[name].split())] * 2, strict=True)}
    newer = {"pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434, "clone3": 435, "openat2": 437}
    for gpu in (False, True):
        steps = program(machine, allowed(gpu, PID))
        assert {word: answer(steps, machine.audit, number) for word, number in numbers.items()} == dict.fromkeys(
            numbers, EPERM
        )
        assert {answer(steps, machine.audit, number) for number in newer.values()} == {ENOSYS}


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_arguments_decide_where_they_must(name: str) -> None:
    machine = MACHINES[name]
    steps, calls = program(machine, allowed(False, PID)), machine.calls

    def told(call: str, *arguments: int) -> int:
        return answer(steps, machine.audit, calls[call], arguments)

    assert told("openat", 3, 0, 0o2000000) == ALLOW  # O_RDONLY | O_CLOEXEC
    assert {told("openat", 3, 0, flags) for flags in (1, 2, 0o100, 0o1000, 0o20000000)} == {EPERM}
    assert told("clone", 0x3D0F00) == ALLOW  # what pthread_create asks for
    assert {told("clone", flags) for flags in (0, 17, 0x100, 0x10000)} == {EPERM}
    assert (told("tgkill", PID, 1, 6), told("tgkill", PID + 1, 1, 6), told("tgkill", PID + (1 << 32), 1, 6)) == (
        ALLOW,
        EPERM,
        EPERM,
    )
    assert (told("prlimit64", 0, 9, 0, 8), told("prlimit64", 0, 9, 1 << 32, 8), told("prlimit64", 7, 9, 0, 8)) == (
        ALLOW,
        EPERM,
        EPERM,
    )


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_every_call_of_the_list_has_a_number(name: str) -> None:
    """Those that an architecture never had are known; any other lack would be a refusal by mistake."""
    old = {"open", "stat", "lstat", "access", "readlink", "poll", "select", "dup2", "time", "epoll_wait"}
    lacking = {rule.name for rule in allowed(True, PID)} - set(MACHINES[name].calls)
    assert lacking == (old if name == "aarch64" else set())
    assert len(set(MACHINES[name].calls.values())) == len(MACHINES[name].calls)


def test_a_condition_on_half_a_register_leaves_the_other_half_alone() -> None:
    machine = MACHINES["x86_64"]
    steps = program(machine, (Allowed("read", (Condition(0, 0xFF, 7),)),))
    assert answer(steps, machine.audit, 0, (0x100000007,)) == ALLOW
    assert answer(steps, machine.audit, 0, (8,)) == EPERM


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
OWN_WORDS = {"fstatat": "newfstatat"}
"""The generic header's name for a call whose number has another name in the kernel's own table."""


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_the_numbers_are_the_kernels(name: str) -> None:
    if not HEADERS[name].is_file():
        pytest.skip(f"the kernel's headers are not installed: {HEADERS[name]}")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[name].read_text())
    known = {OWN_WORDS.get(word, word): int(number) for word, number in found}
    ours = MACHINES[name].calls
    assert dict(ours) == {word: known[word] for word in ours}
