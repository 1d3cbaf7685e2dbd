"""Reasoning in a response is removed; tags that the response only mentions are kept."""

import json

import pytest

from code_alpaca.core.reasoning import strip_reasoning

ANSWER = '{"tasks": [{"instruction": "Add two numbers.", "output": "a + b"}]}'
DRAFT = '{"tasks": [{"instruction": "Add.", "output": "TODO"}]}'


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\nI could begin with\n{DRAFT}\nbut no.\n</think>\n\n{ANSWER}",
        f"First idea:\n{DRAFT}\nToo easy.\n</think>\n\n{ANSWER}",
        f"It's fine, 5\" is a length.\n</think>\n{ANSWER}",
        f"Good enough.</think>{ANSWER}",
        f"<THINK>{DRAFT}</THINK>{ANSWER}",
        f"<think></think>{ANSWER}",
        f"<thinking>\nhm\n</thinking>\n{ANSWER}",
        f"<thought>\nhm {DRAFT}</thought>\n\n{ANSWER}",
        f"<seed:think>hm {DRAFT}</seed:think>{ANSWER}",
        f"[THINK]hm {DRAFT}[/THINK]{ANSWER}",
        f"hm {DRAFT}[/THINK]{ANSWER}",
        f"◁think▷hm◁/think▷{ANSWER}",
        f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
        f"<|inner_prefix|>{DRAFT}<|inner_suffix|>{ANSWER}",
        f"<|think|>{DRAFT}<|/think|>{ANSWER}",
        f"<scratchpad>\n{DRAFT}\n</scratchpad>\n{ANSWER}",
        f"<reflection>{DRAFT}</reflection>\n{ANSWER}",
        f"<|begin_of_thought|>\nhm\n<|end_of_thought|>\n<|begin_of_solution|>{ANSWER}",
        f'<think>The text has `</think>` in it, "<think>" too.\n</think>\n{ANSWER}',
        f"<think>\n<think>\nnested\n</think>\n{DRAFT}\n</think>\n{ANSWER}",
        f"<think>I must not write <think> again.\n</think>\n{ANSWER}",
        f"<think>a</think>\n<think>b {DRAFT}</think>\n{ANSWER}",
        f"a\n</think>\n{DRAFT}\n</think>\n{ANSWER}",
        f"Draft:\n```python\ndef f():\n    never finished\n</think>\n{ANSWER}",
        f"<|channel|>analysis<|message|>hm {DRAFT}<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{ANSWER}<|return|>",
        f"analysisWe need tasks. {DRAFT}assistantfinal{ANSWER}",
    ],
)
def test_reasoning_in_any_form_is_removed(text):
    assert strip_reasoning(text) == ANSWER


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\nI could begin with\n{DRAFT}",
        f"  <think>{DRAFT}",
        f"[THINK]{DRAFT}",
        f"<|channel|>analysis<|message|>{DRAFT}",
        "<think>nothing follows</think>",
    ],
)
def test_a_response_that_was_truncated_during_reasoning_is_empty(text):
    assert strip_reasoning(text) == ""


TASK = {
    "instruction": "Remove <think>...</think> from a text; all before </think> goes.",
    "output": 'def f(text):\n    return text.split("</think>")[-1]  # </think>\n',
}
MENTIONS = json.dumps({"tasks": [TASK]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "def f(x):\n    return x\n",
        "    return text.split('</think>')[-1]\n",
        '    return re.sub(r"<think>.*?</think>\\s*", "", text)\n',
        "    # everything before </think>\n    return text\n",
        "This function drops what stands between <think> and </think>.\n",
        "Everything before </think> is dropped.",
        '```python\nPROMPT = """\n<think>\nplan\n</think>\n"""\n```\n',
        "Use this:\n```\n{{ content }}\n</think>\n```\n",
        MENTIONS,
        MENTIONS[:-10],
        f"Here they are:\n{MENTIONS}",
        "analysis of variance",
    ],
)
def test_text_without_reasoning_is_unchanged(text):
    assert strip_reasoning(text) == text


def test_tags_that_the_response_mentions_are_kept_when_reasoning_is_removed():
    assert strip_reasoning(f"<think>short</think>{MENTIONS}") == MENTIONS


def test_reasoning_between_two_parts_of_the_response_is_removed():
    text = "def f():\n<think>\nis it right?\n</think>\n    return 1\n"
    assert strip_reasoning(text) == "def f():\n    return 1\n"


def test_indentation_after_the_reasoning_is_preserved():
    assert strip_reasoning("hm\n</think>\n\n    return x") == "    return x"


@pytest.mark.parametrize(
    ("part", "is_reasoning"),
    [
        ("</think>", True),
        ("<think>", True),
        ('"</think>', False),
        ("`<think>\n", False),
        ("x </think> y", False),
    ],
)
def test_a_text_with_a_hundred_thousand_tags_is_processed(part, is_reasoning):
    text = part * 100_000
    assert strip_reasoning(text) == ("" if is_reasoning else text)
