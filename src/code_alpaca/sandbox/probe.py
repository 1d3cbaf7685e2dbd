"""Find out which backends really confine programs on this machine, by trying to escape.

A canary program tries to write outside its sandbox, to read a secret, to connect to a listener on
loopback, to find a secret in an environment, to start a process, to signal its parent and to
exceed its memory limit. A backend is safe if the canary fails at all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError
from code_alpaca.sandbox import backends
from code_alpaca.sandbox.backends import BACKENDS, SAFE, Backend
from code_alpaca.sandbox.inside import landlock_rules
from code_alpaca.sandbox.supervisor import ResourceLimits, SandboxDied
from code_alpaca.sandbox.temp_folder import LockedTempFolder
from code_alpaca.sandbox.worker import Worker

ESCAPES = ("write", "read", "network", "environment", "processes", "signals", "memory")
MEMORY_MB = 256
SECRET_VARIABLE = "CODE_ALPACA_CANARY"
CONSENT_VARIABLE = "HF_ALLOW_CODE_EVAL"
# The boot, and the kernel settings that decide whether users may create namespaces.
KERNEL_FACTS = (
    "kernel/random/boot_id",
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)

CANARY = """
import json, os, socket
def start_process():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitpid(pid, 0)
def read_environments():
    if secret in str(os.environ):
        return True
    return any(open(f"/proc/{pid}/environ", "rb").read() for pid in (os.getppid(), parent))
attempts = {
    "write": lambda: open(outside + "/canary", "w"),
    "read": lambda: secret in open(outside + "/secret").read(),
    "network": lambda: socket.create_connection(("127.0.0.1", port), 1),
    "environment": read_environments,
    "processes": start_process,
    "signals": lambda: os.kill(os.getppid(), 0) is None,
    "memory": lambda: bytearray(memory),
}
escaped = []
for name, attempt in attempts.items():
    try:
        if attempt():
            escaped.append(name)
    except (OSError, MemoryError):
        pass
print(json.dumps(escaped))
"""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the canary could do in one backend."""

    backend: Backend
    escaped: tuple[str, ...] = ()  # its successful attempts
    problem: str = ""  # why it could not be run at all; "" if it ran

    @property
    def safe(self) -> bool:
        """Whether the canary ran and could do nothing."""
        return not self.problem and not self.escaped


def choose_backend(requested: str = "auto", *, allow_unsafe: bool = False) -> ProbeResult:
    """Choose a backend: the strongest that is safe here, or the requested one.

    Raises InputError if none is safe, or an unsafe one is requested without consent.
    """
    probes = probe_backends()
    if requested == "auto":
        if safe := [probe for probe in probes if probe.safe]:
            return safe[0]
        failures = [f"{p.backend}: {_describe_failure(p)}" for p in probes if p.backend in SAFE]
        reasons = "; ".join(failures)
        raise InputError(f"no sandbox works on this machine ({reasons}); install bubblewrap")
    probe = next(probe for probe in probes if probe.backend == requested)
    if probe.safe:
        return probe
    if requested in SAFE:
        raise InputError(
            f"sandbox {requested} does not work on this machine ({_describe_failure(probe)}); "
            "use sandbox auto"
        )
    if not allow_unsafe or os.environ.get(CONSENT_VARIABLE) != "1":
        raise InputError(
            f"sandbox {requested} restricts neither files nor network of the code it runs; to use "
            f"it anyway, add --allow_unsafe true and set {CONSENT_VARIABLE}=1"
        )
    return probe


def probe_backends(*, cached: bool = True) -> list[ProbeResult]:
    """Return the probes of all backends, strongest first.

    They are cached until something that they depend on changes, unless a backend could not be
    probed for an unexpected reason.
    """
    problems = {backend: backends.find_problem(backend) for backend in BACKENDS}
    path = _cache_path(problems)
    if cached and path is not None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            return [
                ProbeResult(row["backend"], tuple(row["escaped"]), row["problem"])
                for row in json.loads(path.read_text(encoding="utf-8"))
            ]
    probes = [probe_backend(backend) for backend in BACKENDS]
    reproducible = all(probe.problem == (problems[probe.backend] or "") for probe in probes)
    if path is not None and reproducible:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fs.write_text(path, json.dumps([asdict(probe) for probe in probes]))
    return probes


def probe_backend(backend: Backend) -> ProbeResult:
    """Run the canary in one backend."""
    if problem := backends.find_problem(backend):
        return ProbeResult(backend, problem=problem)
    secret = secrets.token_hex(16)
    with closing(LockedTempFolder()) as outside, socket.create_server(("127.0.0.1", 0)) as listener:
        Path(outside.path, "secret").write_text(secret)
        variables = {
            "outside": outside.path,
            "secret": secret,
            "port": listener.getsockname()[1],
            "parent": os.getpid(),
            "memory": 2 * MEMORY_MB << 20,
        }
        assignments = "".join(f"{name} = {value!r}\n" for name, value in variables.items())
        limits = ResourceLimits(wall_s=10, memory_mb=MEMORY_MB)
        os.environ[SECRET_VARIABLE] = secret
        try:
            with Worker(backend) as worker:
                result = worker.run_program(assignments + CANARY, limits)
        except (InputError, SandboxDied) as error:
            return ProbeResult(backend, problem=str(error))
        finally:
            del os.environ[SECRET_VARIABLE]
        if result.status != "passed":
            last_line = (result.stderr.strip().splitlines() or [result.status])[-1]
            return ProbeResult(backend, problem=f"its canary failed: {last_line}")
        escaped = json.loads(result.stdout)
        if Path(outside.path, "canary").exists():
            escaped.append("write")
    return ProbeResult(backend, tuple(name for name in ESCAPES if name in escaped))


def _describe_failure(probe: ProbeResult) -> str:
    return probe.problem or f"the canary could: {', '.join(probe.escaped)}"


def _cache_path(problems: dict[Backend, str | None]) -> Path | None:
    """Return a path that changes with the boot, user, interpreter, settings and sandbox code."""
    boot_id, *settings = (_read_kernel_fact(name) for name in KERNEL_FACTS)
    if not boot_id:
        return None
    facts = [boot_id, os.getuid(), os.path.realpath(sys.executable), os.environ.get("PATH")]
    facts += [problems, landlock_rules.landlock_version(), _describe_bubblewrap(), *settings]
    sources = sorted(backends.INSIDE.parent.rglob("*.py"))
    content = json.dumps(facts).encode() + b"".join(path.read_bytes() for path in sources)
    return fs.cache_dir() / f"sandbox-{hashlib.sha256(content).hexdigest()[:16]}.json"


def _describe_bubblewrap() -> list[object]:
    """Identify the installed bwrap, so that another version is probed again."""
    path = shutil.which("bwrap")
    if path is None:
        return []
    status = os.stat(path)
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_mode]


def _read_kernel_fact(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text()
    except OSError:
        return ""
