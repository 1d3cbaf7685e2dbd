"""The shells around untrusted programs: what each is made of, and how it is started.

`bwrap`: Bubblewrap puts the zygote and its children into namespaces of their own: no network,
no other process, an empty home, and a file system of a few read-only folders. `landlock`: the
same process in the open, whose children lock themselves in by Landlock; it works without root
and where user namespaces are switched off. Both add seccomp and limits (`inside/lock.py`), and
bwrap adds Landlock where the kernel has it. `rlimit`: limits alone, which hide neither files
nor network: only for code that you would run yourself.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Literal

from code_alpaca.sandbox.inside import lock

Backend = Literal["bwrap", "landlock", "rlimit"]
SAFE: tuple[Backend, ...] = ("bwrap", "landlock")  # strongest first
INSIDE = Path(lock.__file__).parent
ZYGOTE = INSIDE / "zygote.py"
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/ld.so.cache",
          "/etc/alternatives")  # fmt: skip
WORK = "/sandbox"
WORK_BYTES = 64 << 20


def available(backend: Backend) -> str | None:
    """None where this machine has what the backend needs, else what it lacks."""
    if backend == "rlimit":
        return None
    if sys.platform != "linux":
        return "Linux alone has it"
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"no seccomp filter for {platform.machine()}"
    if backend == "bwrap" and shutil.which("bwrap") is None:
        return "bwrap is not installed (Debian and Ubuntu: apt install bubblewrap)"
    if backend == "landlock" and lock.landlock_version() == 0:
        return "this kernel has no Landlock (Linux 5.13, with landlock in its lsm= list)"
    return None


def command(backend: Backend, control: int, work: str, packages: bool) -> list[str]:
    """The command line of a zygote.

    Args:
        control: the file descriptor over which it takes orders.
        work: an empty folder of this machine for the files of programs (bwrap has its own).
        packages: let programs import what is installed beside this library.
    """
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    installed = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    shown = [*SYSTEM, os.path.realpath(sys.base_prefix), str(INSIDE), *(installed * packages)]
    config = {
        "readable": shown,
        "writable": WORK if backend == "bwrap" else work,
        "packages": installed * packages,
        "landlock": backend != "rlimit" and lock.landlock_version() > 0,
        "seccomp": backend != "rlimit",
        "alone": backend == "bwrap",
    }
    zygote = [python, "-s", "-S", str(ZYGOTE), str(control), json.dumps(config)]
    return [*_bwrap(shown), "--", *zygote] if backend == "bwrap" else zygote


def environment() -> dict[str, str]:
    """All that a program sees of the environment: nothing of the user's."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # the order of sets is the same in every run
        "OPENBLAS_NUM_THREADS": "1",
    }


def _bwrap(shown: list[str]) -> list[str]:
    words = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent"]
    words += ["--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"]
    for name, value in environment().items():
        words += ["--setenv", name, value]
    words += ["--dev", "/dev", "--tmpfs", "/tmp"]
    for path in shown:
        words += ["--ro-bind-try", path, path]
    words += ["--size", str(WORK_BYTES), "--tmpfs", WORK, "--chdir", WORK]
    for path in ("/tmp", "/dev", "/"):  # /dev holds /dev/shm
        words += ["--remount-ro", path]
    return words
