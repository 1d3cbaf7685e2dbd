"""The strongest safe backend is chosen; an unsafe one is used only with the user's consent."""

from __future__ import annotations

import json
import shutil

import pytest
from support.needs import need
from support.python_process import run_python

from code_alpaca import sandbox
from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.records import EvalResults
from code_alpaca.sandbox import backends


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_the_canary_escapes_from_resource_limits():
    probe = sandbox.probe_backend("rlimit")
    assert not probe.safe and not probe.problem
    assert {"write", "read", "network", "processes", "signals"} <= set(probe.escaped)


def test_the_strongest_safe_backend_is_chosen_and_cached(tmp_path, monkeypatch):
    first = sandbox.choose_backend()
    assert first.safe and first.backend in backends.SAFE
    (cache,) = tmp_path.rglob("sandbox-*.json")
    rows = json.loads(cache.read_text())
    assert [row["backend"] for row in rows] == ["bwrap", "landlock", "rlimit"]
    monkeypatch.setattr(backends, "build_command", None)  # no sandbox can be started
    assert sandbox.choose_backend() == first
    cache.write_text("{broken")
    monkeypatch.undo()
    assert sandbox.choose_backend().safe


def test_without_bubblewrap_landlock_is_chosen(monkeypatch, tmp_path):
    problem = backends.find_problem("landlock")
    need(not problem, f"landlock: {problem}; run this test on a kernel that has it")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sandbox.choose_backend().backend == "landlock"
    assert "apt install bubblewrap" in sandbox.probe_backend("bwrap").problem


def test_a_bubblewrap_installed_later_is_noticed(monkeypatch, tmp_path):
    need(not backends.find_problem("bwrap"), "bwrap is not installed (apt install bubblewrap)")
    need(not backends.find_problem("landlock"), "this kernel has no Landlock")
    real, found = shutil.which("bwrap"), tmp_path / "bin" / "bwrap"
    found.parent.mkdir()
    monkeypatch.setenv("PATH", str(found.parent))
    assert sandbox.choose_backend().backend == "landlock"
    found.write_text("#!/bin/sh\nexit 1\n")
    found.chmod(0o755)
    assert sandbox.choose_backend().backend == "landlock", "one that does not work"
    found.unlink()
    found.symlink_to(real)
    assert sandbox.choose_backend().backend == "bwrap"
    found.unlink()
    assert sandbox.choose_backend().backend == "landlock"


def test_an_unexpected_failure_is_not_cached(monkeypatch, tmp_path):
    with monkeypatch.context() as broken:
        broken.setattr(backends, "FORK_SERVER", tmp_path / "nonexistent.py")
        with pytest.raises(InputError, match="no sandbox works"):
            sandbox.choose_backend()
    assert sandbox.choose_backend().safe


RUN_COMMAND = "import sys; from code_alpaca.cli import main; sys.exit(main(sys.argv[1:]))"


def test_without_a_safe_backend_commands_are_refused(tmp_path):
    evaluate = ["eval", "--samples", "reference", "--output_dir", str(tmp_path / "e")]
    generate = ["generate", "--run_dir", str(tmp_path / "r"), "--teacher_base_url", "offline"]
    for words, advice in ((evaluate, "install bubblewrap"), (generate, "or set verify: false")):
        done = run_python(RUN_COMMAND, *words, landlock=False, PATH=str(tmp_path))
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert "no sandbox works" in done.stderr and advice in done.stderr
    assert not (tmp_path / "r").exists() and not (tmp_path / "e").exists()


def test_an_unsafe_backend_needs_both_consents(monkeypatch, tmp_path, capsys):
    command = ["eval", "--samples", "reference", "--limit", "2", "--sandbox", "rlimit"]
    command += ["--output_dir", str(tmp_path / "e")]
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    assert main(command) == 2 and main([*command, "--allow_unsafe"]) == 2
    assert "HF_ALLOW_CODE_EVAL=1" in capsys.readouterr().err
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    assert main([*command, "--allow_unsafe"]) == 0
    recorded = EvalResults.load(tmp_path / "e").sandbox
    assert recorded.backend == "rlimit" and "write" in recorded.canary_escaped


def test_eval_prints_what_each_backend_prevents(capsys):
    assert main(["eval", "--probe"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("bwrap", "landlock", "network", "blocked"))
