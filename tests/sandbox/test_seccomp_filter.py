"""The seccomp filter decides each system call as the table states, on both architectures."""

from __future__ import annotations

import errno
import struct

import pytest

from code_alpaca.sandbox.inside import seccomp_filter, syscall_table

KILL, FAIL, NOTIFY, ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000
DENY = FAIL | errno.EPERM
PID, CHANNEL = 4242, 3


@pytest.fixture(params=syscall_table.ARCHITECTURES)
def architecture(request, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: request.param)
    return request.param


class Filter:
    """A filter of this process, run by a small BPF interpreter."""

    def __init__(self, architecture, *, may_start_others=False, may_write=False, notify=False):
        filters = seccomp_filter.build_filters(
            [CHANNEL], may_exec=may_start_others, may_fork=may_start_others, may_write=may_write
        )
        program = seccomp_filter.for_process(filters[0 if notify else -1], PID)
        self._code = list(struct.iter_unpack("HBBI", program))
        self._arch = syscall_table.ARCHITECTURES[architecture]
        self._numbers = syscall_table.load_numbers()

    def decide(self, call, *arguments, arch=None):
        """Return the decision on a call, given by its name or number."""
        number = self._numbers[call] if isinstance(call, str) else call
        arguments = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
        data = struct.pack("<iIQ6Q", number, arch or self._arch, 0, *arguments)
        loaded = position = 0
        while True:
            operation, if_true, if_false, operand = self._code[position]
            position += 1
            if operation == 0x06:  # return
                return operand
            if operation == 0x20:  # load
                (loaded,) = struct.unpack_from("<I", data, operand)
                continue
            is_true = {0x15: loaded == operand, 0x25: loaded > operand, 0x45: loaded & operand}
            position += if_true if is_true[operation] else if_false


def existing(*groups):
    """Return the names of the calls in parts of the table that this architecture has."""
    numbers = syscall_table.load_numbers()
    return [name for group in groups for name in group if name in numbers]


def test_denied_and_ignored_calls_are_not_made(architecture):
    filter_ = Filter(architecture, may_start_others=True)
    for name in existing(syscall_table.DENIED):
        assert filter_.decide(name) == DENY, name
    for name in existing(syscall_table.IGNORED):
        assert filter_.decide(name) == FAIL | 0, name
    assert filter_.decide("write", 1) == ALLOW


def test_calls_that_are_not_reviewed_or_of_another_architecture_fail(architecture):
    filter_ = Filter(architecture)
    assert filter_.decide(syscall_table.LAST_REVIEWED + 1) == FAIL | errno.ENOSYS
    assert filter_.decide(0x40000000 + 1) == FAIL | errno.ENOSYS  # x32
    assert filter_.decide("write", 1, arch=0x40000003) == KILL  # i386


def test_processes_are_started_only_with_permission(architecture):
    thread, process = 0x10000, 0
    forbidden, allowed = Filter(architecture), Filter(architecture, may_start_others=True)
    for name in existing(syscall_table.FORK, syscall_table.EXEC):
        assert (forbidden.decide(name), allowed.decide(name)) == (DENY, ALLOW), name
    assert forbidden.decide("clone", thread) == ALLOW
    assert (forbidden.decide("clone", process), allowed.decide("clone", process)) == (DENY, ALLOW)
    assert forbidden.decide("clone3") == FAIL | errno.ENOSYS


def test_arguments_decide_some_calls(architecture):
    filter_ = Filter(architecture)
    for name in ("kill", "tgkill"):
        assert [filter_.decide(name, pid) for pid in (PID, 0, 1)] == [ALLOW, DENY, DENY], name
    for name in ("prlimit64", "sched_setaffinity"):
        assert [filter_.decide(name, pid) for pid in (PID, 0, 1)] == [ALLOW, ALLOW, DENY], name
    set_death_signal, set_name, set_owner, get_flags = 1, 15, 8, 3
    assert filter_.decide("prctl", set_death_signal) == DENY
    assert filter_.decide("prctl", set_name) == ALLOW
    assert filter_.decide("fcntl", 0, set_owner) == DENY
    assert filter_.decide("fcntl", 0, get_flags) == ALLOW
    terminal_size, terminal_input, reserve_space = 0x5413, 0x5412, 0x40305828
    assert filter_.decide("ioctl", 0, terminal_size) == ALLOW
    assert filter_.decide("ioctl", 0, terminal_input) == DENY
    assert filter_.decide("ioctl", 0, reserve_space) == FAIL | errno.ENOTTY


def test_counted_calls_are_suspended_if_there_is_a_listener(architecture):
    counted = Filter(architecture, may_write=True, notify=True)
    silent = Filter(architecture, may_write=True)
    free_file = 9
    always = (syscall_table.VECTOR_WRITE, syscall_table.CREATE_ENTRY, syscall_table.EXIT)
    for name in existing(*always):
        assert (counted.decide(name), silent.decide(name)) == (NOTIFY, ALLOW), name
    for name in ("write", "pwrite64"):
        assert counted.decide(name, free_file) == NOTIFY
        assert counted.decide(name, CHANNEL) == ALLOW
    create, shared = 0x40, 0x01
    assert [counted.decide("openat", 0, 0, flags) for flags in (0, create)] == [ALLOW, NOTIFY]
    assert [counted.decide("mmap", 0, 0, 0, flags) for flags in (0, shared)] == [ALLOW, NOTIFY]
    assert counted.decide("close", CHANNEL) == FAIL | errno.EBADF
    assert [counted.decide("close", fd) for fd in (1, free_file)] == [NOTIFY, ALLOW]
    for error, calls in syscall_table.UNCOUNTABLE.items():
        for name in existing(calls):
            assert counted.decide(name) == FAIL | error, name
