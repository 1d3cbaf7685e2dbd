"""Prices come from the config, or from the price list by API host and model name."""

from __future__ import annotations

from code_alpaca.teacher.prices import find_price

OPENAI = "https://api.openai.com/v1"
OTHER = "https://other.example/v1"


def test_a_model_snapshot_costs_what_its_model_costs():
    assert find_price("gpt-4o-mini-2024-07-18", None).output == 0.6


def test_the_batch_api_has_a_discount():
    assert find_price("gpt-4o-mini", OPENAI, batch=True).input == 0.075


def test_a_configured_price_overrides_the_list():
    assert find_price("x", None, configured=(1.0, 2.0)).compute_cost(1_000_000, 500_000) == 2.0


def test_the_price_depends_on_the_host(monkeypatch):
    assert find_price("gpt-4o-mini", OPENAI) is not None
    assert find_price("gpt-4o-mini", "http://127.0.0.1:8000/v1") is None
    assert find_price("gpt-4o-mini", f"{OPENAI}, {OTHER}") is None
    monkeypatch.setenv("OPENAI_BASE_URL", OTHER)
    assert find_price("gpt-4o-mini", None) is None
