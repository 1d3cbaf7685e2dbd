"""Which sandbox holds on this machine? Ask each with a program that tries to get out.

A canary tries to write outside, to read a secret, to reach a listener on loopback, to find a
secret in an environment, to start a process, to signal its parent and to take more memory than
it may. What it managed is the backend's verdict, whatever the backend claims to be.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError
from code_alpaca.core.fs import cache_dir
from code_alpaca.sandbox import backends
from code_alpaca.sandbox.backends import SAFE, Backend
from code_alpaca.sandbox.inside import lock
from code_alpaca.sandbox.relay import ResourceLimits, SandboxDied
from code_alpaca.sandbox.scratch import Scratch
from code_alpaca.sandbox.worker import Worker

ESCAPES = ("write", "read", "network", "environment", "processes", "signals", "memory")
MEMORY_MB = 256
CONSENT = "HF_ALLOW_CODE_EVAL"
USER_NAMESPACES = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)

CANARY = """
import ctypes, json, os, socket
escaped = []
def attempt(name):
    def decorate(function):
        try:
            if function():
                escaped.append(name)
        except (OSError, MemoryError):
            pass
    return decorate
@attempt("write")
def _():
    open(outside + "/canary", "w").close()
    return True
@attempt("read")
def _():
    return secret in open(outside + "/secret").read()
@attempt("network")
def _():
    socket.create_connection(("127.0.0.1", port), 1)
    return True
@attempt("environment")
def _():
    if secret in str(os.environ):
        return True
    return any(open(f"/proc/{pid}/environ", "rb").read() for pid in (os.getppid(), parent))
@attempt("processes")
def _():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True
@attempt("signals")
def _():
    os.kill(os.getppid(), 0)
    return True
@attempt("memory")
def _():
    return len(bytearray(memory)) > 0
print(json.dumps(escaped))
"""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the canary managed inside one backend; `problem` where it could not even run."""

    backend: Backend
    escaped: tuple[str, ...] = ()
    problem: str = ""

    @property
    def safe(self) -> bool:
        return not self.problem and not self.escaped


def probe_backend(backend: Backend) -> ProbeResult:
    """Try to break out of one backend."""
    if lacks := backends.available(backend):
        return ProbeResult(backend, problem=lacks)
    secret = secrets.token_hex(16)
    with (
        Scratch() as outside,
        socket.create_server(("127.0.0.1", 0)) as listener,
        _in_environment("CODE_ALPACA_CANARY", secret),
    ):
        Path(outside, "secret").write_text(secret)
        facts = {
            "outside": outside,
            "secret": secret,
            "port": listener.getsockname()[1],
            "parent": os.getpid(),
            "memory": 2 * MEMORY_MB << 20,
        }
        given = "".join(f"{name} = {value!r}\n" for name, value in facts.items())
        try:
            with Worker(backend) as worker:
                result = worker.run_program(
                    given + CANARY, ResourceLimits(wall_s=10, memory_mb=MEMORY_MB)
                )
        except (InputError, SandboxDied) as error:
            return ProbeResult(backend, problem=str(error))
        if result.status != "passed":
            last = (result.stderr.strip().splitlines() or [result.status])[-1]
            return ProbeResult(backend, problem=f"its canary did not end: {last}")
        escaped = set(json.loads(result.stdout))
        if Path(outside, "canary").exists():
            escaped.add("write")
    return ProbeResult(backend, tuple(name for name in ESCAPES if name in escaped))


def probe_backends(*, cached: bool = True) -> list[ProbeResult]:
    """The probes of all backends, strongest first; remembered until something they rest on changes.

    A backend that could not be tried, though nothing is known to be missing, is tried again.
    """
    lacking = {backend: backends.available(backend) for backend in (*SAFE, "rlimit")}
    path = _cache_path(lacking)
    if cached and path is not None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            return [
                ProbeResult(row["backend"], tuple(row["escaped"]), row["problem"])
                for row in json.loads(path.read_text(encoding="utf-8"))
            ]
    probes = [probe_backend(backend) for backend in lacking]
    certain = all(found.problem == (lacking[found.backend] or "") for found in probes)
    if path is not None and certain:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fs.write_text(path, json.dumps([asdict(found) for found in probes]))
    return probes


def choose_backend(wanted: str = "auto", *, allow_unsafe: bool = False) -> ProbeResult:
    """The backend to use: the strongest that holds, or the wanted one if it does.

    Raises:
        InputError: none holds, or the guard is to be lowered without consent.
    """
    probes = probe_backends()
    if wanted == "auto":
        for found in probes:
            if found.safe:
                return found
        told = "; ".join(f"{found.backend}: {_why(found)}" for found in probes[:-1])
        raise InputError(f"no sandbox holds on this machine ({told}); install bubblewrap")
    found = next(found for found in probes if found.backend == wanted)
    if found.safe:
        return found
    if wanted != "rlimit":
        raise InputError(f"sandbox {wanted} does not hold here ({_why(found)}); use auto")
    if not allow_unsafe or os.environ.get(CONSENT) != "1":
        raise InputError(
            "sandbox rlimit hides neither files nor network from the code it runs; to run it all "
            f"the same, add --allow_unsafe true and set {CONSENT}=1"
        )
    return found


def _why(found: ProbeResult) -> str:
    return found.problem or f"the canary got through: {', '.join(found.escaped)}"


def _cache_path(lacking: dict[Backend, str | None]) -> Path | None:
    """Where the verdicts are kept for this boot, user, interpreter, code and sandbox programs."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return None
    sources = sorted(backends.INSIDE.parent.rglob("*.py"))
    facts = [boot, os.getuid(), os.path.realpath(sys.executable), os.environ.get("PATH")]
    facts += [lacking, lock.landlock_version(), _bubblewrap(), *_switches()]
    text = json.dumps(facts).encode() + b"".join(path.read_bytes() for path in sources)
    return cache_dir() / f"sandbox-{hashlib.sha256(text).hexdigest()[:16]}.json"


def _bubblewrap() -> list[object]:
    """The program that bwrap is now, so that another version is tried again."""
    found = shutil.which("bwrap")
    if found is None:
        return []
    facts = os.stat(found)
    return [os.path.realpath(found), facts.st_size, facts.st_mtime_ns, facts.st_mode]


def _switches() -> list[str]:
    """The settings of the kernel that decide whether users may have namespaces of their own."""
    values = []
    for name in USER_NAMESPACES:
        try:
            values.append(Path("/proc/sys", name).read_text())
        except OSError:
            values.append("")
    return values


class _in_environment:
    """A variable of this process for a while."""

    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def __enter__(self) -> None:
        os.environ[self._name] = self._value

    def __exit__(self, *_: object) -> None:
        del os.environ[self._name]
