"""The prompts are an interface, fixed byte for byte."""

import copy

import pytest
from support import tokenizers_in_use

from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import (
    PROMPT_STYLES,
    PromptTemplate,
    chat_template,
    contains_style,
    format_prompt,
)
from code_alpaca.evaluation.inference import encode_prompt
from code_alpaca.evaluation.text_generation import decode_response


def test_the_prompt_without_an_input():
    assert format_prompt("Print hi.") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nPrint hi.\n\n### Response:"
    )


def test_the_prompt_with_an_input():
    assert format_prompt("Fix it.", "x = = 1") == (
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nFix it.\n\n### Input:\nx = = 1\n\n### Response:"
    )


def test_braces_in_a_task_are_kept():
    assert "{input} {0} %s" in format_prompt("Explain {input} {0} %s", "{instruction}")
    assert format_prompt("a", "{instruction}").count("{instruction}") == 1


@pytest.mark.parametrize(
    ("with_input", "without_input", "message"),
    [
        (
            "Q: {question} {input}",
            "{instruction}",
            "with_input is 'Q: {question} {input}'; it",
        ),
        ("Q: {instruction}", "Q: {instruction}", "must contain {instruction} and {input}"),
        ("{instruction} {input}", "Q:\nA:", "without_input is 'Q:\\nA:'; it must contain {instruc"),
        ("{instruction} {input}", "{instruction} {input}", "without_input is"),
        ("{instruction!r} {input}", "{instruction}", "with_input is"),
        ("{instruction} {input} }", "{instruction}", "write {{ or }}"),
    ],
)
def test_a_style_contains_the_task_and_no_other_place(with_input, without_input, message):
    with pytest.raises(InputError) as caught:
        PromptTemplate(with_input, without_input)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_stops_of_a_style_are_several_strings():
    with pytest.raises(InputError, match="give a tuple of strings"):
        PromptTemplate("{instruction} {input}", "{instruction}", stops="\nQ:")


def test_newline_style_adds_only_the_newline():
    assert format_prompt("a", style="alpaca_nl") == format_prompt("a") + "\n"


@pytest.mark.parametrize("style", PROMPT_STYLES)
@pytest.mark.parametrize("begin", [True, False])
def test_the_chat_template_renders_the_training_prompt(style, begin):
    from tokenizers import processors

    from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

    _, tokenizer = build_scratch_model(
        ["abc"], ScratchShape(vocab_size=300, hidden_size=32, num_layers=1, num_heads=2)
    )
    if not begin:
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.chat_template = chat_template(tokenizer, style)
    assert contains_style(tokenizer.chat_template, style)
    assert not contains_style(tokenizer.chat_template.replace(":", "."), style)
    for task in ("Add 1.", "{% x %} {{ y }} \\n \"q\" 'q'", "é\n\n  日本", " lead and trail \n"):
        messages = [{"role": "user", "content": task}]
        for more in ({}, {"input": "x = 1\n{{ z }}"}):
            prompt = format_prompt(task, **more, style=style)
            ids = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, **more
            )["input_ids"]
            assert ids == tokenizer(prompt)["input_ids"]
    with pytest.raises(Exception, match="knows no system message"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}, *messages])


@pytest.fixture(scope="module", params=tokenizers_in_use.KINDS)
def tokenizer(request):
    return tokenizers_in_use.make(request.param, [format_prompt("Add 1.", "x"), "return x + 1"])


@pytest.mark.parametrize("style", PROMPT_STYLES)
@pytest.mark.parametrize("ends", [False, True])
def test_a_chat_server_tokenizes_the_prompt_as_training_does(tokenizer, style, ends):
    """For every kind of special tokens and word marks."""
    from tokenizers import processors

    tokenizer = copy.deepcopy(tokenizer)
    if ends:
        special = [(token, tokenizer.convert_tokens_to_ids(token))
                   for token in (tokenizer.bos_token, tokenizer.eos_token)]  # fmt: skip
        begin, end = special[0][0], special[1][0]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A {end}", special_tokens=list(dict.fromkeys(special))
        )
    tokenizer.chat_template = chat_template(tokenizer, style)
    for task, input in (("Add 1.", ""), (" two\n\n  lines ", "x = 1\n"), ("<s> tag", "<s>")):
        trained = tokenizer(format_prompt(task, input, style=style))["input_ids"]
        assert encode_prompt(tokenizer, task, input) == trained


@pytest.mark.parametrize("text", ["", "x", "def f():\n    return 1", "    return 1", "  a", "\n a"])
def test_a_response_is_decoded_to_the_text_that_training_tokenized(tokenizer, text):
    assert (
        decode_response(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    )
