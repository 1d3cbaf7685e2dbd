"""Run the benchmarks and save their results in results/<date>-<hardware>.json.

    python benchmarks/run.py                          # all that are not yet measured at this commit
    python benchmarks/run.py novelty_speed --again    # one, even if it is
    ... --data FOLDER                                 # real rows and benchmarks instead of composed

Results are saved after each benchmark: the same command continues an interrupted run. Every name of
a template in tables/ is a benchmark; tables.py writes the results into the documentation.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from common import add_arguments

from code_alpaca.core.errors import did_you_mean
from code_alpaca.core.fs import write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
MEASURED_CODE = ("src", "benchmarks/*.py", "benchmarks/peers", "constraints.txt")
QUIET = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "LOGURU_LEVEL": "WARNING"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all benchmarks")
    parser.add_argument("--again", action="store_true", help="measure again what is measured")
    parser.add_argument("--scripts", type=Path, default=ROOT / "benchmarks", help="their folder")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    add_arguments(parser)
    args = parser.parse_args()
    if args.quick and args.results == RESULTS:
        sys.exit("--quick measures nothing that counts: save its results elsewhere with --results")
    known = benchmark_names(args.scripts)
    if unknown := [name for name in args.names if name not in known]:
        advice = did_you_mean(unknown[0], known, f"choose from {', '.join(known)}")
        sys.exit(f"there is no benchmark {unknown[0]!r}: {advice}")
    hardware, commit = describe_hardware(), describe_commit(args.scripts.resolve().parent)
    path = args.results / f"{datetime.date.today()}-{hardware['name']}.json"
    failed = []
    for name in args.names or known:
        if not args.again and is_measured(args.results, hardware["name"], name, commit):
            print(f"{name}: already measured at commit {commit}", flush=True)
            continue
        print(f"{name}:", flush=True)
        result = run_script(args.scripts / f"{name}.py", args)
        if result is None:
            failed.append(name)
        else:
            save(path, hardware, name, {"commit": commit, **result})
            print(f"  {result['seconds']} s, saved in {path}", flush=True)
    if failed:
        sys.exit(f"not measured, their scripts failed: {', '.join(failed)}")


def benchmark_names(scripts: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in (scripts / "tables").glob("*.md.jinja"))


def run_script(script: Path, args: argparse.Namespace) -> dict[str, Any] | None:
    """Return the result of a script, or None if it fails; its progress goes to the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "result.json")
        command = [sys.executable, str(script), "--output", str(output)]
        command += ["--quick"] if args.quick else []
        command += ["--data", str(args.data)] if args.data else []
        done = subprocess.run(command, env={**os.environ, **QUIET})
        return json.loads(output.read_text("utf-8")) if done.returncode == 0 else None


def save(path: Path, hardware: dict[str, Any], name: str, result: dict[str, Any]) -> None:
    saved = load(path) if path.exists() else {"benchmarks": {}}
    saved["hardware"] = hardware
    saved["benchmarks"][name] = {"date": str(datetime.date.today()), **result}
    saved["benchmarks"] = dict(sorted(saved["benchmarks"].items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, saved)


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def is_measured(results: Path, hardware: str, name: str, commit: str) -> bool:
    """Return whether a benchmark was measured on this hardware at this very commit."""
    if commit.endswith("+changes"):
        return False
    saved = (load(path)["benchmarks"] for path in results.glob(f"*-{hardware}.json"))
    return any(benchmarks.get(name, {}).get("commit") == commit for benchmarks in saved)


def describe_commit(root: Path) -> str:
    """Return the last commit that changed what is measured, with `+changes` if there are more."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
        return done.stdout.strip()

    commit = git("log", "-1", "--format=%h", "--", *MEASURED_CODE)
    changes = git("status", "--porcelain", "--", *MEASURED_CODE)
    return f"{commit}+changes" if changes or not commit else commit


def describe_hardware() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    gpus = list_gpus()
    models = {re.sub(r"(NVIDIA|Tesla)\s*|[^\w ]", "", gpu).strip() for gpu in gpus}
    gpu_name = "-".join(sorted(model.split()[0].lower() for model in models))
    return {
        "name": f"{len(gpus)}x{gpu_name}" if gpus else f"{cores}xcpu",
        "cpu": cpu_model(),
        "cores": cores,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def list_gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
    return " ".join(found[1].split()) if found else "unknown"


if __name__ == "__main__":
    main()
