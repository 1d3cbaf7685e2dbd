"""Prices come from the config, or from a price list by URL and model name."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("claude-haiku-4-5", "https://api.anthropic.com/v1/"),
        ("gemini-2.5-flash", "https://generativelanguage.googleapis.com/v1beta/openai/"),
        ("deepseek-chat", "https://api.deepseek.com/v1"),
        ("grok-4", "https://api.x.ai/v1"),
        ("mistral-large-latest", "https://api.mistral.ai/v1"),
        ("llama-3.3-70b-versatile", "https://api.groq.com/openai/v1"),
        ("openai/gpt-4o-mini", "https://openrouter.ai/api/v1"),
        ("gpt-4o", "https://resource.openai.azure.com/"),
    ],
)
def test_models_of_every_provider_have_a_price_with_its_source(model, url):
    price = find_price(model, url)
    assert 0 < price.input < price.output < 100
    assert price.source.startswith("genai-prices ")


def test_an_unknown_model_has_no_price():
    assert find_price("gpt-4.1-mini-tuned-by-us", OPENAI) is None


def test_azures_variables_set_the_url(monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://resource.openai.azure.com")
    assert find_price("gpt-4o", None).source == find_price("gpt-4o", OPENAI).source
    assert find_price("no-deployment-of-this-name", None) is None
