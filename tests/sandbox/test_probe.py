"""The strongest sandbox that holds is chosen; none is refused; the guard goes down by consent."""

from __future__ import annotations

import json
import shutil

import pytest
from support.needs import need

from code_alpaca import sandbox
from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.sandbox import backends


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_limits_alone_do_not_hold_and_the_canary_says_where():
    found = sandbox.probe_backend("rlimit")
    assert not found.safe and not found.problem
    assert {"write", "read", "network", "processes", "signals"} <= set(found.escaped)


def test_the_strongest_that_holds_is_chosen_and_remembered(tmp_path, monkeypatch):
    first = sandbox.choose_backend()
    assert first.safe and first.backend in backends.SAFE
    (cache,) = tmp_path.rglob("sandbox-*.json")
    rows = json.loads(cache.read_text())
    assert [row["backend"] for row in rows] == ["bwrap", "landlock", "rlimit"]
    monkeypatch.setattr(backends, "build_command", None)  # nothing is started again
    assert sandbox.choose_backend() == first
    cache.write_text("{broken")
    monkeypatch.undo()
    assert sandbox.choose_backend().safe


def test_without_bubblewrap_landlock_is_next(monkeypatch, tmp_path):
    lacks = backends.find_problem("landlock")
    need(not lacks, f"landlock: {lacks}; run the tests where there is one, to see it hold")
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


def test_a_failure_that_may_pass_is_not_remembered(monkeypatch, tmp_path):
    with monkeypatch.context() as broken:
        broken.setattr(backends, "FORK_SERVER", tmp_path / "nonexistent.py")
        with pytest.raises(InputError, match="no sandbox works"):
            sandbox.choose_backend()
    assert sandbox.choose_backend().safe


def test_none_is_refused_with_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(backends.landlock_rules, "landlock_version", lambda: 0)
    with pytest.raises(InputError, match="install bubblewrap"):
        sandbox.choose_backend()
    assert main(["eval", "--samples", "reference", "--output_dir", str(tmp_path / "e")]) == 2
    assert (
        main(["generate", "--run_dir", str(tmp_path / "r"), "--teacher_base_url", "offline"]) == 2
    )
    assert "or set verify: false" in capsys.readouterr().err
    assert not (tmp_path / "r").exists() and not (tmp_path / "e").exists()


def test_the_guard_goes_down_only_with_both_consents(monkeypatch, tmp_path, capsys):
    words = ["eval", "--samples", "reference", "--limit", "2", "--sandbox", "rlimit"]
    words += ["--output_dir", str(tmp_path / "e")]
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    assert main(words) == 2 and main([*words, "--allow_unsafe"]) == 2
    assert "HF_ALLOW_CODE_EVAL=1" in capsys.readouterr().err
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    assert main([*words, "--allow_unsafe"]) == 0
    told = json.loads((tmp_path / "e" / "results.json").read_text())["sandbox"]
    assert told["backend"] == "rlimit" and "write" in told["canary_escaped"]


def test_the_table(capsys):
    assert main(["eval", "--probe"]) == 0
    out = capsys.readouterr().out
    assert "bwrap" in out and "landlock" in out and "network" in out
