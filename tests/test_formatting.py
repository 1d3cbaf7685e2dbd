"""The prompts are an interface: these are their bytes."""

from code_alpaca.formatting import format_prompt


def test_without_input():
    assert format_prompt("Say hi.") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nSay hi.\n\n### Response:"
    )


def test_with_input():
    assert format_prompt("Fix it.", "x = = 1") == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nFix it.\n\n### Input:\nx = = 1\n\n### Response:"
    )


def test_braces_in_a_task_stay_as_they_are():
    assert "{input} {0} %s" in format_prompt("Explain {input} {0} %s", "{instruction}")
    assert format_prompt("a", "{instruction}").count("{instruction}") == 1


def test_newline_style_adds_only_the_newline():
    assert format_prompt("a", style="alpaca_nl") == format_prompt("a") + "\n"
