"""The training benchmark reports what it cannot measure, instead of an estimate."""

from __future__ import annotations

import runpy
import sys

from support.tiny_sft import ROOT

SCRIPT = ROOT / "benchmarks/sft_throughput.py"


def test_without_a_gpu_large_models_are_not_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--sizes", "1b,7b"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == [
        f"{size}: not measured, there is no GPU" for size in ("1b", "7b")
    ]
