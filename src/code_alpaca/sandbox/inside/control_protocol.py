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
PROGRAM, COMMAND, SOLUTION, TESTS = "program", "command", "solution", "tests"


@dataclass
class ServerConfig:
    """What the fork server may show to programs, and how it confines them.

    Attributes:
        readable: paths that programs may read.
        work_folder: where their own folders are made.
        packages: folders of installed packages that they may import.
        landlock, seccomp: whether to apply these.
        private_namespaces: whether this process is alone in a PID namespace, with a file system
            of its own (Bubblewrap).
    """

    readable: list[str]
    work_folder: str
    packages: list[str]
    landlock: bool
    seccomp: bool
    private_namespaces: bool


@dataclass
class ChildRequest:
    """A request to start one confined child.

    Attributes:
        job: number of the child.
        kind: what it does; one of the constants above.
        folder: name of its own folder, made only if `folder_bytes` is above 0.
        files: text files to write into the folder, by name.
        folder_bytes: size of the largest file that it may write.
    """

    job: int
    kind: str
    folder: str
    files: dict[str, str]
    max_processes: int
    cpu_seconds: float
    memory_bytes: int
    folder_bytes: int
    max_open_files: int


@dataclass
class ChildReport:
    """How a child ended: its wait status, and whether it was killed for filling its folder."""

    job: int
    wait_status: int
    peak_kb: int
    folder_full: bool


def encode(message: ServerConfig | ChildRequest | ChildReport) -> bytes:
    """Encode a message as JSON."""
    return json.dumps(asdict(message)).encode()


def encode_kill(job: int) -> bytes:
    """Encode a request to kill a child."""
    return json.dumps({"kill": job}).encode()
