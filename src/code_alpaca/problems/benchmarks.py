"""Benchmark problems in one form, whoever made them.

The form is HumanEval's (Chen et al. 2021, https://arxiv.org/abs/2107.03374): a prompt to be
continued, and a `check(candidate)` that asserts. Ours adds `instruction`, the same problem in
the words of an instruction. MBPP (Austin et al. 2021, https://arxiv.org/abs/2108.07732) and the
larger test sets of EvalPlus (Liu et al. 2023, https://arxiv.org/abs/2305.01210) are brought
into it, and so are HumanEval's translations into other languages of MultiPL-E (Cassano et al.
2022, https://arxiv.org/abs/2208.08227).
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.languages import canonical

TIMEOUT_S = 10.0  # of the one request that asks whether the Hub is there
BUILT_IN = {"mini": "data/mini_benchmark.jsonl"}
# name: dataset on the Hub, config, and the commit that it is read at.
ON_THE_HUB = {
    "humaneval": (
        "openai/openai_humaneval",
        "openai_humaneval",
        "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
    ),
    "humaneval_plus": (
        "evalplus/humanevalplus",
        "default",
        "d32357cf319e50e9c8d8dab5ea876c72b0fd321b",
    ),
    "mbpp": (
        "google-research-datasets/mbpp",
        "full",
        "4bb6404fdc6cacfda99d4ac4205087b89d32030c",
    ),
    "mbpp_sanitized": (
        "google-research-datasets/mbpp",
        "sanitized",
        "4bb6404fdc6cacfda99d4ac4205087b89d32030c",
    ),
    "mbpp_plus": (
        "evalplus/mbppplus",
        "default",
        "b2d74c91837c3f2a20c1299ae98133cbe7cfa077",
    ),
}
MULTIPL_E = ("nuprl/MultiPL-E", "28441b6024e71d4a1c1c0f6bf171c935cd5a43f2")
for short, language in (("js", "javascript"), ("sh", "shell")):
    dataset, revision = MULTIPL_E
    ON_THE_HUB[f"humaneval_{language}"] = (dataset, f"humaneval-{short}", revision)
NAMES = (*BUILT_IN, *ON_THE_HUB)
HUMANEVAL_KEYS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
MBPP_KEYS = ("task_id", "code", "test_list")
MULTIPL_E_KEYS = ("name", "language", "prompt", "tests")
MBPP_TEST_SPLIT = range(11, 511)  # the task_ids of the paper's test split


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `prompt + canonical_solution + test` and `check(entry_point)` run clean."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str
    instruction: str = ""
    language: str = "python"
    stops: tuple[str, ...] = ()  # where an answer ends, in languages other than Python


def load(name: str, *, every_split: bool = False) -> list[Problem]:
    """The problems of a benchmark by name (see NAMES), or of a .jsonl[.gz] file.

    A name may carry a revision of the Hub (`humaneval@main`), which replaces the pinned one. A
    file is in HumanEval's form or in MBPP's; of MBPP's whole file the test split is taken, or
    all of it with `every_split`: MBPP+ and the sanitized MBPP take problems from every split.

    Raises:
        InputError: there is no such benchmark, the Hub has no answer, or a line is of another
            form (named by number).
    """
    if name in BUILT_IN:
        text = resources.files("code_alpaca").joinpath(BUILT_IN[name]).read_text("utf-8")
        records = _lines(text, f"benchmark {name}")
    elif name.partition("@")[0] in ON_THE_HUB:
        records = _from_hub(name, "all" if every_split else "test")
    else:
        records = _lines(_read(Path(name)), f"benchmark {name}")
    problems = [_problem(record, where) for where, record in records]
    if not every_split and any(isinstance(r.get("task_id"), int) for _, r in records):
        split = [p for p in problems if int(p.task_id.split("/")[-1]) in MBPP_TEST_SPLIT]
        problems = split or problems
    if not problems:
        raise InputError(f"benchmark {name} holds no problem")
    if len({problem.task_id for problem in problems}) < len(problems):
        raise InputError(f"benchmark {name} holds the same task_id twice")
    return problems


def source(name: str) -> dict[str, str]:
    """Where a benchmark comes from, for the record: dataset and revision, or the name alone."""
    short, _, revision = name.partition("@")
    if short not in ON_THE_HUB:
        return {"name": name}
    dataset, config, pinned = ON_THE_HUB[short]
    return {"name": short, "dataset": dataset, "config": config, "revision": revision or pinned}


def _from_hub(name: str, split: str) -> list[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset

    short, _, revision = name.partition("@")
    dataset, config, pinned = ON_THE_HUB[short]
    revision = revision or pinned
    unreachable = _why_unreachable(dataset, revision)
    try:
        with _cache_alone() if unreachable else nullcontext():
            rows = load_dataset(dataset, config, revision=revision, split=split)
            pinned_here = re.fullmatch(r"[0-9a-f]{40}", revision)
            if unreachable and pinned_here and revision not in rows.cache_files[0]["filename"]:
                raise LookupError(f"{unreachable}; the cache holds another revision")
    except Exception as error:  # datasets raises whatever its layers raise
        reason = unreachable or (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"cannot load benchmark {short} from {dataset}@{revision[:7]} ({reason}); check the "
            "network, or give the path of a file in its form"
        ) from None
    return [(f"benchmark {name}, row {n}", dict(row)) for n, row in enumerate(rows, 1)]


def _why_unreachable(dataset: str, revision: str) -> str:
    """Ask the Hub once for a dataset; "" where it answers, whatever it says."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        HfApi().dataset_info(dataset, revision=revision, timeout=TIMEOUT_S)
    except HfHubHTTPError:
        return ""
    except (httpx2.HTTPError, OfflineModeIsEnabled) as error:
        return f"the Hub cannot be reached: {error_message(error)}"
    return ""


@contextmanager
def _cache_alone() -> Iterator[None]:
    """Let `datasets` read its cache without asking the Hub, which it retries for half a minute."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _lines(text: str, where: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}, line {number}: not JSON ({error_message(error)})") from None
        if not isinstance(record, dict):
            raise InputError(f"{where}, line {number}: not a JSON object")
        found.append((f"{where}, line {number}", record))
    return found


def _read(path: Path) -> str:
    if not path.exists():
        raise InputError(
            f"no benchmark {str(path)!r}: neither a known one ({', '.join(NAMES)}) nor a file"
        )
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"cannot read benchmark {path}: {error}") from None


def _problem(record: dict[str, Any], where: str) -> Problem:
    if all(key in record for key in MBPP_KEYS):
        return _of_mbpp(record, where)
    if all(isinstance(record.get(key), str) for key in MULTIPL_E_KEYS):
        return _of_multipl_e(record)
    if not all(isinstance(record.get(key), str) for key in HUMANEVAL_KEYS):
        missing = [key for key in HUMANEVAL_KEYS if not isinstance(record.get(key), str)]
        raise InputError(
            f"{where}: neither in HumanEval's form (without {', '.join(missing)}) nor in MBPP's "
            f"({', '.join(MBPP_KEYS)}) nor in MultiPL-E's ({', '.join(MULTIPL_E_KEYS)})"
        )
    extra = {k: record[k] for k in ("instruction", "language") if isinstance(record.get(k), str)}
    if "language" in extra:
        extra["language"] = canonical(extra["language"])
    return Problem(**{key: record[key] for key in HUMANEVAL_KEYS}, **extra)


def _of_multipl_e(record: dict[str, Any]) -> Problem:
    """Its tests stand after the program and call the function; there is no reference."""
    return Problem(
        task_id=record["name"],
        prompt=record["prompt"],
        entry_point=record["name"].split("_", 2)[-1],
        canonical_solution="",
        test=record["tests"],
        language=canonical(record["language"]),
        stops=tuple(record.get("stop_tokens") or ()),
    )


def _of_mbpp(record: dict[str, Any], where: str) -> Problem:
    """MBPP calls its function by name; here it is called `candidate` and bound to that name."""
    try:
        text = record.get("text") or record["prompt"]
        code = record["code"].replace("\r\n", "\n")
        asserts = [line.replace("\r\n", "\n") for line in record["test_list"]]
        before = [*(record.get("test_imports") or []), record.get("test_setup_code") or ""]
        # EvalPlus has its thousands of cases in `test`, beside the three of MBPP.
        tests = record.get("test") or "\n".join([*before, *asserts]).replace("\r\n", "\n")
        entry = _called(code, asserts)
        body = ast.parse(tests).body
    except (KeyError, TypeError, AttributeError, ValueError, SyntaxError) as error:
        raise InputError(f"{where}: not in MBPP's form ({type(error).__name__}: {error})") from None
    (check,) = ast.parse(f"def check(candidate):\n    {entry} = candidate").body
    assert isinstance(check, ast.FunctionDef)
    check.body += body
    shown = "\n".join(asserts)
    return Problem(
        task_id=f"MBPP/{record['task_id']}",
        prompt=f'"""\n{text}\n{shown}\n"""\n',
        entry_point=entry,
        canonical_solution=code,
        test=ast.unparse(check),
        instruction=f"{text}\nThe function is called `{entry}` and has to pass:\n{shown}",
    )


def _called(code: str, asserts: Iterable[str]) -> str:
    """The function that the tests are about: of those that `code` defines, the first called."""
    defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    for line in asserts:
        for node in ast.walk(ast.parse(line)):
            if isinstance(node, ast.Name) and node.id in defined:
                return node.id
    raise ValueError("its tests call no function that its code defines")
