"""The sandbox backends: what each needs, and the command line that starts its fork server.

`bwrap`: Bubblewrap runs the fork server and its children in separate namespaces: no network, no
other processes, an empty home, and a file system of a few read-only folders. `landlock`: the fork
server runs as a normal process, and its children confine themselves by Landlock; this needs
neither root nor user namespaces. Both add seccomp and resource limits (`inside/confinement.py`),
and bwrap adds Landlock where the kernel supports it. `rlimit`: resource limits only, which
restrict neither files nor network: only for code that you would run yourself.

To add a backend, add its name to `Backend` and its row to `BACKENDS`.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from code_alpaca.sandbox.inside import control_protocol, landlock_rules, syscall_table

Backend = Literal["bwrap", "landlock", "rlimit"]

INSIDE = Path(control_protocol.__file__).parent
FORK_SERVER = INSIDE / "__main__.py"
SYSTEM_PATHS = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/ld.so.cache",
                "/etc/alternatives")  # fmt: skip
BWRAP_WORK_FOLDER = "/sandbox"
BWRAP_WORK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """How one backend confines programs."""

    is_installed: Callable[[], bool]
    how_to_install: str = ""
    kernel_filters: bool = True  # seccomp, and Landlock where the kernel supports it
    private_namespaces: bool = False  # the fork server has its own processes and file system
    # From the paths to show, the command line before that of the fork server.
    wrap: Callable[[list[str]], list[str]] = lambda readable: []


def find_problem(backend: Backend) -> str | None:
    """Return why a backend cannot be used on this machine, or None."""
    spec = BACKENDS[backend]
    if spec.kernel_filters and sys.platform != "linux":
        return "this needs Linux"
    if spec.kernel_filters and platform.machine() not in syscall_table.ARCHITECTURES:
        return f"no seccomp filter for {platform.machine()}"
    return None if spec.is_installed() else spec.how_to_install


def can_limit_processes(backend: Backend) -> bool:
    """Whether programs may start others: the kernel must limit their number, and end them."""
    return BACKENDS[backend].private_namespaces and os.geteuid() != 0


def build_command(backend: Backend, control_fd: int, folder: str, *, packages: bool) -> list[str]:
    """Return the command line of a fork server that receives requests over `control_fd`."""
    spec = BACKENDS[backend]
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")} if packages else ()
    readable = [*SYSTEM_PATHS, os.path.realpath(sys.base_prefix), str(INSIDE), *sorted(installed)]
    config = control_protocol.ServerConfig(
        readable=readable,
        work_folder=folder,
        packages=sorted(installed),
        landlock=spec.kernel_filters and landlock_rules.landlock_version() > 0,
        seccomp=spec.kernel_filters,
        private_namespaces=spec.private_namespaces,
    )
    arguments = [str(control_fd), control_protocol.encode(config).decode()]
    return [*spec.wrap(readable), python, "-s", "-S", str(FORK_SERVER), *arguments]


def build_environment() -> dict[str, str]:
    """Return all environment variables of a program: none of the user's."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # sets have the same order in every run
        "OPENBLAS_NUM_THREADS": "1",
    }


def _wrap_in_bwrap(readable: list[str]) -> list[str]:
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent"]
    command += ["--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"]
    for name, value in build_environment().items():
        command += ["--setenv", name, value]
    command += ["--dev", "/dev", "--tmpfs", "/tmp"]
    for path in readable:
        command += ["--ro-bind-try", path, path]
    command += ["--size", str(BWRAP_WORK_BYTES), "--tmpfs", BWRAP_WORK_FOLDER]
    command += ["--chdir", BWRAP_WORK_FOLDER]
    for path in ("/tmp", "/dev", "/"):  # /dev contains /dev/shm
        command += ["--remount-ro", path]
    return [*command, "--"]


BACKENDS: dict[Backend, BackendSpec] = {  # strongest first
    "bwrap": BackendSpec(
        lambda: shutil.which("bwrap") is not None,
        "bwrap is not installed (Debian and Ubuntu: apt install bubblewrap)",
        private_namespaces=True,
        wrap=_wrap_in_bwrap,
    ),
    "landlock": BackendSpec(
        lambda: landlock_rules.landlock_version() > 0,
        "this kernel has no Landlock (Linux 5.13, with landlock in its lsm= list)",
    ),
    "rlimit": BackendSpec(lambda: True, kernel_filters=False),
}
SAFE: tuple[Backend, ...] = tuple(name for name, spec in BACKENDS.items() if spec.kernel_filters)
