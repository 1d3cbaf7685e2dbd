"""The seccomp table names each system call with the numbers that the kernel's headers define."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.needs import need

from code_alpaca.sandbox.inside import syscall_table

INCLUDE = Path("/usr/include")
HEADERS = {  # Debian puts the headers of each architecture into a folder of its own
    "x86_64": [*INCLUDE.glob("asm/unistd_64.h"), *INCLUDE.glob("x86_64-linux-gnu/asm/unistd_64.h")],
    "aarch64": [*INCLUDE.glob("asm-generic/unistd.h")],  # arm64 uses the generic numbers
}
INSTALLED = {architecture: paths[0] for architecture, paths in HEADERS.items() if paths}
# The generic header calls some numbers 3264: the call differs between 32 and 64 bits.
DEFINITION = re.compile(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)


@pytest.mark.parametrize("architecture", INSTALLED)
def test_numbers_equal_those_of_the_kernel_headers(architecture):
    defined = {}
    for name, number in DEFINITION.findall(INSTALLED[architecture].read_text()):
        defined.setdefault(name, int(number))
    column = 1 + syscall_table.ARCHITECTURES.index(architecture)
    in_table = {row[0]: row[column] for row in syscall_table.iter_rows()}
    assert in_table == {name: defined.get(name) for name in in_table}


def test_kernel_headers_are_installed():
    need(INSTALLED, "kernel headers are not installed (apt install linux-libc-dev)")


def test_each_system_call_has_one_row():
    names = [name for name, *_ in syscall_table.iter_rows()]
    assert len(names) == len(set(names))
