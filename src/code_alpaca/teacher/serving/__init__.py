"""Serve a model on this machine for the duration of a run, with a server of another environment.

`teacher_base_url: llama-server:FILE.gguf` and `eval --engine llama-server` start the server, one
for each GPU. It listens on 127.0.0.1, writes its log into the run folder, and ends with the run,
however that ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from code_alpaca.core import console
from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.teacher.serving.engines import (
    Demand,
    ServedModel,
    check_model,
    working_directory,
)
from code_alpaca.teacher.serving.keys import ServingKeys
from code_alpaca.teacher.serving.process import HOST, Launch, ServerProcess

POLL_INTERVAL_S = 0.2
SHOWN_LINES = 15  # of the log of a server that failed
SHOWN_CHARACTERS = 100  # of a line of the log while the server starts

out = console.stage("serving")


@contextlib.contextmanager
def serve_model(
    served: ServedModel, keys: ServingKeys, demand: Demand, logs: Path
) -> Iterator[list[str]]:
    """Start the servers of a model and yield their base URLs; stop them at the end.

    Args:
        demand: what all servers together must be able to hold.
        logs: the folder of the servers' logs.

    Raises:
        InputError: there is no such program or model, or a server did not start.
        Stopped: a server ended during the run; or what the block raises.
    """
    check_model(served)
    launches = _plan_launches(served, keys, demand, logs)
    servers: list[ServerProcess] = []
    try:
        out.print(f"starting {served.engine.name}, log in {launches[0].log}")
        for launch in launches:
            servers.append(ServerProcess(launch))
        _wait_until_ready(served, servers, keys.serving_timeout_s)
        try:
            yield [server.base_url for server in servers]
        except Stopped:
            if ended := [server for server in servers if server.has_ended]:
                raise Stopped(_explain_end(served, ended[0])) from None
            raise
        for server in servers:
            if server.has_ended:
                out.warning(f"{served.engine.name} {server.describe_end()}; see {server.log}")
    finally:
        for server in servers:
            server.request_stop()
        for server in servers:
            server.wait_for_end()


def _plan_launches(
    served: ServedModel, keys: ServingKeys, demand: Demand, logs: Path
) -> list[Launch]:
    """Return one launch for each replica, with its part of the GPUs."""
    engine, gpus = served.engine, _list_gpus()
    num_replicas = keys.serving_replicas or len(gpus) or 1
    if gpus and num_replicas > len(gpus):
        raise InputError(
            f"serving_replicas {num_replicas} is more than the {plural(len(gpus), 'GPU')} that "
            "this process sees; lower it, or change CUDA_VISIBLE_DEVICES"
        )
    command = engine.find_command(keys.serving_command)
    share = replace(demand, num_requests=-(-demand.num_requests // num_replicas))
    arguments = engine.build_arguments(served, share)
    gpus_each = len(gpus) // num_replicas
    return [
        Launch(
            [*command, *arguments, *keys.serving_args, "--host", HOST, "--port", str(port)],
            port,
            logs / f"{engine.name}-{index}.log",
            working_directory(served),
            gpus[index * gpus_each : (index + 1) * gpus_each],
        )
        for index, port in enumerate(_find_free_ports(num_replicas))
    ]


def _list_gpus() -> list[str]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES selects, or else all of this machine.

    Without torch, which takes seconds to import and is not installed for `generate`.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(index) for index, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return names[: names.index("-1")] if "-1" in names else names


def _find_free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        sockets = [
            open_sockets.enter_context(socket.create_server((HOST, 0))) for _ in range(count)
        ]
        return [listener.getsockname()[1] for listener in sockets]


def _wait_until_ready(
    served: ServedModel, servers: Sequence[ServerProcess], timeout_s: float
) -> None:
    """Wait for all servers, and print the last line of the log from time to time."""
    name, started_at = served.engine.name, time.monotonic()
    printed_at, waiting = started_at, list(servers)
    while waiting := [server for server in waiting if not server.is_ready()]:
        now = time.monotonic()
        for server in waiting:
            if server.has_ended:
                raise InputError(_explain_end(served, server))
        if now - started_at > timeout_s:
            _print_tail(waiting[0])
            raise InputError(
                f"{name} was not ready after {timeout_s:g} s; see the end of {waiting[0].log} "
                "above, or raise serving_timeout_s"
            )
        if now - printed_at >= console.LOG_INTERVAL_S:
            printed_at = now
            last = "".join(waiting[0].read_tail(1))[:SHOWN_CHARACTERS] or "nothing in its log yet"
            out.print(f"waiting for {name} for {now - started_at:.0f} s: {last}")
        time.sleep(POLL_INTERVAL_S)
    urls = ", ".join(server.base_url for server in servers)
    seconds = time.monotonic() - started_at
    out.print(f"{name} serves {served.name} at {urls} (ready after {seconds:.0f} s)")


def _explain_end(served: ServedModel, server: ServerProcess) -> str:
    """Print the end of the log of a server that ended, and return what happened."""
    _print_tail(server)
    return (
        f"{served.engine.name} {server.describe_end()}; the end of {server.log} is printed above: "
        "correct what it names, then rerun the same command"
    )


def _print_tail(server: ServerProcess) -> None:
    for line in server.read_tail(SHOWN_LINES):
        out.print(f"| {line}")
