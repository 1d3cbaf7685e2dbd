"""Secrets in URLs are refused in a config, and masked in text that is printed or published."""

from __future__ import annotations

import pytest

from code_alpaca.cli import main
from code_alpaca.core.redact import find_secret, redact

SECRET = "hunter2hunter2hunter2"
WITH_SECRET = [
    f"http://me:{SECRET}@127.0.0.1:9/v1",
    f"http://{SECRET}@127.0.0.1:9/v1",
    f"http://127.0.0.1:9/v1?api_key={SECRET}",
    f"http://127.0.0.1:9/v1?api-version=2024-10-21&X-Amz-Signature={SECRET}",
    f"http://127.0.0.1:9/v1?Subscription%2DKey={SECRET}",
    f"http://127.0.0.1:9/v1?{SECRET}",
    f"http://127.0.0.1:9/v1#token={SECRET}",
    f"http://127.0.0.1:9/sk-{SECRET}/v1",
    f"http://127.0.0.1:8/v1,http://127.0.0.1:9/v1?sig={SECRET}",
]


@pytest.mark.parametrize("url", WITH_SECRET)
def test_a_url_with_a_secret_is_refused_and_the_secret_is_not_printed(tmp_path, capsys, url):
    words = ["generate", "--run_dir", str(tmp_path / "run"), "--teacher_base_url", url]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "set OPENAI_API_KEY" in error and SECRET not in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("url", [WITH_SECRET[0], WITH_SECRET[2], "not a URL"])
def test_the_base_url_in_the_environment_is_checked_too(tmp_path, capsys, monkeypatch, url):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    assert main(["generate", "--run_dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "OPENAI_BASE_URL is" in error and SECRET not in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_secret_in_any_key_and_in_a_yaml_list_is_refused(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(f"source: x\nrun_dir: y\ndecontaminate: ['https://h/f?token={SECRET}']\n")
    assert main(["curate", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "'token'" in error and SECRET not in error


@pytest.mark.parametrize("url", WITH_SECRET)
def test_a_secret_in_a_text_is_masked_and_the_rest_kept(url):
    shown = redact({"message": [f"the teacher at {url} does not answer"], "n": 1})
    assert SECRET not in str(shown) and shown["n"] == 1
    assert "127.0.0.1:9" in str(shown) and str(shown).endswith("does not answer'], 'n': 1}")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "https://h.example/openai/deployments/gpt/?api-version=2024-10-21",
        "https://h.example/datasets/a/resolve/main/rows.json?download=true",
        "offline?near_duplicate=0.05&rate_429=0.1",
    ],
)
def test_a_url_without_a_secret_is_unchanged(url):
    assert find_secret(url) == "" and redact(url) == url
