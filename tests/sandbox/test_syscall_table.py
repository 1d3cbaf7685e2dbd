"""The seccomp table names each system call with the numbers that the kernel's headers define."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from support.needs import need

from code_alpaca.sandbox.inside import syscall_table

INCLUDE = Path("/usr/include")
HEADERS = {  # Debian has one folder per architecture
    "x86_64": [*INCLUDE.glob("asm/unistd_64.h"), *INCLUDE.glob("x86_64-linux-gnu/asm/unistd_64.h")],
    "aarch64": [*INCLUDE.glob("asm-generic/unistd.h")],  # arm64 uses the generic numbers
}
# The generic header calls some numbers 3264: the call differs between 32 and 64 bits.
DEFINITION = re.compile(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)


@pytest.mark.parametrize("architecture", syscall_table.ARCHITECTURES)
def test_numbers_equal_those_of_the_kernel_headers(architecture):
    need(HEADERS[architecture], "kernel headers are not installed (apt install linux-libc-dev)")
    defined = {}
    for name, number in DEFINITION.findall(HEADERS[architecture][0].read_text()):
        defined.setdefault(name, int(number))
    column = list(syscall_table.ARCHITECTURES).index(architecture)
    for group in syscall_table.GROUPS:
        numbers = {name: row[column] for name, row in group.items()}
        assert numbers == {name: defined.get(name) for name in numbers}


def test_each_system_call_is_in_one_group():
    counts = Counter(name for group in syscall_table.GROUPS for name in group)
    assert [name for name, count in counts.items() if count > 1] == []
