"""Run untrusted programs, and report how they ended. Linux only.

Programs in a safe sandbox (`bwrap` or `landlock`) cannot, even if code-alpaca runs as root:

- read files other than system folders and the Python installation, write or delete any file of
  yours, or change modes, owners and times;
- use the network, and connect to services on this machine;
- read your environment variables, tokens, or the memory of other processes;
- start processes (shell programs can, up to a limit), or signal, trace and inspect others;
- use more than their limits of CPU time, wall time, memory, threads, output, files and disk space;
- leave anything behind: their folder is empty at the start and removed at the end;
- learn anything about earlier programs, or change anything for later ones.

What is not protected:

- The kernel. A bug in the Linux kernel that can be reached by the allowed system calls allows a
  program to escape; if you expect targeted attacks, run everything in a virtual machine.
- System folders (/usr, /lib, /etc/alternatives), the Python installation and, with
  `packages=True`, the installed packages are readable: keep no secrets there.
- Side channels: timing, CPU caches, the load of the machine. Limits are per program: the pool's
  size decides how busy the machine gets.
- Where the kernel cannot suspend system calls (before Linux 5.5, or in a container that already
  does), written bytes are measured every 20 ms instead of counted, so a program can briefly
  exceed its limit; its threads are then limited by its memory only.
- Verdicts from one process. A program that shares a process with its tests can forge their
  verdict; `Worker.test_solution` runs them in separate processes, and `evaluation.grading` uses
  both verdicts.
- The backend `rlimit` protects against accidents (endless loops, memory), not against attacks: it
  restricts neither files nor network.

`choose_backend()` returns the strongest backend that is safe on this machine, as tried by a canary
program that attempts to escape (`probe`). `WorkerPool` keeps its workers, and `Worker` runs a
program, a command, a solution against its tests, or tests on faulty copies of a program.

Why not a container: those start an interpreter per program, need root or a daemon, or do not limit
files and threads. Here a start is a fork, which takes milliseconds.
"""

from code_alpaca.sandbox.backends import SAFE, Backend
from code_alpaca.sandbox.pool import WorkerPool
from code_alpaca.sandbox.probe import (
    ESCAPES,
    ProbeResult,
    choose_backend,
    probe_backend,
    probe_backends,
)
from code_alpaca.sandbox.supervisor import ResourceLimits, RunResult, SandboxDied
from code_alpaca.sandbox.worker import MutationTest, SolutionTest, Worker

__all__ = [
    "ESCAPES", "SAFE", "Backend", "MutationTest", "ProbeResult", "ResourceLimits", "RunResult",
    "SandboxDied", "SolutionTest", "Worker", "WorkerPool", "choose_backend", "probe_backend",
    "probe_backends",
]  # fmt: skip
