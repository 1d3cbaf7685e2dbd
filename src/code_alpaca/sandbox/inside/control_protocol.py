"""Messages between the supervisor, outside the sandbox, and the fork server inside it.

Each is one JSON object in one datagram over the control socket. A `ChildRequest` comes with file
descriptors: the child's channel, standard output, standard error and, where two children talk
to each other, its end of their socket. The same dataclasses are used on both sides.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

READY = b'{"ready": true}'  # the first message of the fork server
MAX_REQUEST = 1 << 20  # bytes
# Kinds of children.
PROGRAM, COMMAND, MUTANTS = "program", "command", "mutants"
SOLUTION, TESTS = "solution", "tests"


@dataclass
class ServerConfig:
    """Sent when the fork server starts: what programs may read, and how they are confined."""

    readable: list[str]  # paths
    work_folder: str  # in which programs get their own folders
    packages: list[str]  # folders with installed packages to import
    landlock: bool
    seccomp: bool
    private_namespaces: bool  # the fork server has its own PID namespace and file system


@dataclass
class ChildRequest:
    """Start one confined child."""

    job: int
    kind: str  # one of the constants above
    folder: str  # name of its folder, which is created if folder_bytes > 0
    files: dict[str, str]  # text files to write into the folder, by name
    max_processes: int
    cpu_seconds: float
    memory_bytes: int
    folder_bytes: int  # size of the largest file
    max_open_files: int


@dataclass
class ChildReport:
    """How a child ended."""

    job: int
    wait_status: int
    peak_kb: int
    folder_full: bool  # it was killed for that


def encode(message: ServerConfig | ChildRequest | ChildReport) -> bytes:
    """Encode a message as JSON."""
    return json.dumps(asdict(message)).encode()


def encode_kill(job: int) -> bytes:
    """Encode a request to kill a child."""
    return json.dumps({"kill": job}).encode()
