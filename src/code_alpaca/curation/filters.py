"""Filters: each a small function of one example that answers a reason to drop it, or None.

To add one: write the function, name it in `FILTERS`, and give it rows to keep and to drop in
`tests/curation/test_filters.py`. They judge form, never subject: the 2023 word list ("map",
"graph", "file", ...) lost 17% of real rows, hash maps and CSV among them.
"""

from __future__ import annotations

import ast
import re
import string
import textwrap
import warnings
from collections.abc import Callable
from functools import cache

from code_alpaca.core.row_formats import holds_reasoning
from code_alpaca.core.schema import Example, is_unicode
from code_alpaca.curation.fences import fenced_blocks
from code_alpaca.curation.language_detection import (
    PYTHON,
    SHOWN_CHARACTERS,
    contains_sentences,
    detect_language,
    detect_text_language,
    extract_programs,
    find_code_blocks,
    is_code,
    is_prose,
    is_valid_python,
)

MIN_INSTRUCTION_WORDS, MAX_INSTRUCTION_WORDS = 4, 300  # 2023 dropped up to 3, and above 150
MAX_OUTPUT_CHARACTERS = 20_000

REFUSAL = re.compile(
    r"^\W*(i'?m sorry|sorry,|i (can'?t|cannot|am unable to|'m unable to) (help|assist|do|comply|"
    r"fulfil)|as an ai\b|as a (large )?language model)",
    re.IGNORECASE,
)
# Strings and comments; an apostrophe within a word, as in prose, opens no string.
QUOTED = re.compile(
    r"\"(\\.|[^\"\n\\])*\"|(?<!\w)(?:[bLuU]|u8)?'(\\.|[^'\n\\])*'|`[^`]*`|//[^\n]*|"
    r"/\*[\s\S]*?(?:\*/|\Z)"
)
BRACKETS = ("()", "[]", "{}")
ASKS_FOR_CODE = re.compile(
    r"^\W*(please )?(write|create|implement|develop|generate|build|construct|code|produce|compose)"
    r"\b.{0,60}\b(function|program|code|script|class|method|query|snippet|regex|selector|loop)\b",
    re.IGNORECASE | re.DOTALL,
)
ASKS_FOR_WORDS = re.compile(
    r"\b(explain|describe|comment|documentation|docstring|summary|summari[sz]e|explanation|"
    r"description|review|pseudo-?code|question|sentence|paragraph|essay|list of|code word)\b",
    re.IGNORECASE,
)
IMPOSSIBLE = re.compile(
    r"^\W*(please )?(draw|paint|sketch|photograph|sing|listen|play|record|watch|"
    r"show me (a|an|the) (picture|image|photo|video)|take (a|an) (photo|picture|screenshot)|"
    r"open (a|an|the|my) (window|browser|app|application|website|file manager|door)|"
    r"(go to|visit|browse) (the|this|a|http)|send (a|an|the) (e-?mail|message)|"
    r"(call|phone|text) (me|my|the|this)|print (it )?on paper)\b",
    re.IGNORECASE,
)
HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b|\bsk-(proj-|ant-)?[A-Za-z0-9_-]{32,}")
EMAIL = re.compile(r"(?<![\w.+-])(?P<name>[\w.+-]+)@(?P<domain>[\w-]+(\.[\w-]+)*\.[a-zA-Z]{2,})\b")
EXAMPLE_DOMAIN = re.compile(
    r"(^|\.)((example|test|sample|domain|your-?\w*|my-?\w*|company|email|mail|site|website|host|"
    r"abc|xyz|foo|bar|acme)\.\w+|\w+\.(example|test|invalid|local|localhost))$",
    re.IGNORECASE,
)
EXAMPLE_NAME = re.compile(
    r"((john|jane|joe|alice|bob|foo|bar|test|user|name|example|sample|abc|xyz|info|admin|support|"
    r"contact|hello|noreply|no-reply|sender|recipient|receiver|from|to|you|your|my|me|someone|"
    r"e?mail|username|first|last)([._+-]?(doe|smith|name|user|mail|email))?\d*)$",
    re.IGNORECASE,
)
MAIL_PROVIDER = re.compile(
    r"(gmail|googlemail|yahoo|ymail|hotmail|outlook|live|msn|icloud|aol|protonmail|proton|gmx|mail|"
    r"zoho|yandex|qq|163)\.[a-z.]{2,6}$",
    re.IGNORECASE,
)
SHORT_NAME = re.compile(r"[A-Za-z]{1,12}\d{0,3}$")
ADDRESS_WORK = (
    r"\b(?:valid\w*|invalid|regex\w*|regular expressions?|extract\w*|pars\w+|match\w*|mask\w*|"
    r"check\w*|detect\w*|find\w*|domains?|count\w*|sort\w*|duplicates?|format|pattern)\b"
)
ABOUT_ADDRESSES = re.compile(
    rf"{ADDRESS_WORK}.{{0,80}}\be-?mails?\b|\be-?mails?\b.{{0,80}}{ADDRESS_WORK}",
    re.IGNORECASE | re.DOTALL,
)
LICENCE = re.compile(
    r"SPDX-License-Identifier|Licensed under the |Permission is hereby granted, free of charge|"
    r"GNU (Lesser |Affero )?General Public License|Redistribution and use in source and binary|"
    r"^\s*(#|//|/?\*+|--|;)\s*(Copyright|\(c\)|©)[^\n]*\d{4}",
    re.IGNORECASE | re.MULTILINE,
)
PYTHON_ALONE = re.compile(r"^\s*(def \w+\([^)]*\)\s*(->.*)?:$|from [\w.]+ import \w)", re.MULTILINE)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
PROMPT_MARK = re.compile(r"^### (Instruction|Input|Response):", re.MULTILINE)


def empty(example: Example) -> str | None:
    """Nothing asked or nothing answered."""
    return None if example.instruction.strip() and example.output.strip() else "empty"


def instruction_length(example: Example) -> str | None:
    """An instruction of a few words says too little; one of a page is a pasted document."""
    words = len(example.instruction[:MAX_OUTPUT_CHARACTERS].split())
    if words < MIN_INSTRUCTION_WORDS:
        return "instruction_too_short"
    return "instruction_too_long" if words > MAX_INSTRUCTION_WORDS else None


def output_length(example: Example) -> str | None:
    """An answer, or an input, that no training context would hold whole."""
    if len(example.input) > MAX_OUTPUT_CHARACTERS:
        return "input_too_long"
    return "output_too_long" if len(example.output) > MAX_OUTPUT_CHARACTERS else None


def refusal(example: Example) -> str | None:
    """The teacher declined, or spoke of itself instead of code."""
    return "refusal" if REFUSAL.match(example.output) else None


def prompt_leak(example: Example) -> str | None:
    """A prompt's own headings, or the reasoning before an answer: a student would write them."""
    if any(PROMPT_MARK.search(text) for text in _texts(example)):
        return "prompt_leak"
    return "reasoning_leak" if holds_reasoning(example.output) else None


def unbalanced_fence(example: Example) -> str | None:
    """A code block that is never closed, and whose code is not complete: the answer was cut."""
    blocks = fenced_blocks(example.output)
    if not blocks or blocks[-1].closed or is_valid_python(example.output):
        return None
    language, _, code, _ = blocks[-1]
    if (language or detect_text_language(code)) == "python":
        complete = is_valid_python(code)
    else:
        bare = QUOTED.sub("", code)
        complete = all(bare.count(left) == bare.count(right) for left, right in BRACKETS)
    return None if complete and code.strip() else "unbalanced_fence"


def not_text(example: Example) -> str | None:
    """Control characters (tab and line ends aside) or half a surrogate pair: no source has them."""
    text = "".join(_texts(example))
    return "not_text" if CONTROL.search(text) or not is_unicode(text) else None


def cut_off(example: Example) -> str | None:
    """An answer that ends inside a string or a bracket."""
    language = detect_language(example)
    for program in extract_programs(example.output, language)[:1]:
        text = program.rstrip()
        if not is_code(text):
            continue
        if language == "python":
            return "cut_off" if _ends_open(text) and not contains_sentences(text) else None
        bare = QUOTED.sub("", text)
        return "cut_off" if bare.count("{") > bare.count("}") else None
    return None


def _ends_open(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as error:
        open_end = ("was never closed", "unterminated", "unexpected EOF")
        return any(said in str(error.msg) for said in open_end)
    except (ValueError, RecursionError, MemoryError):
        pass
    return False


def language_sanity(example: Example) -> str | None:
    """Python that no Python reads, or Python where the row says another language.

    Python is asked of its parser. Between other languages a few lines rarely tell: on real rows
    their signs dropped good Swift, Java and PHP, and no bad row. Code in fences is judged by
    itself; where code stands among sentences without a fence, nobody knows where it begins.
    """
    language, text = detect_language(example), example.output
    programs = [program for program in extract_programs(text, language) if is_code(program)]
    if language == "python":
        if not programs:
            other = {block.language for block in find_code_blocks(text)} - {"", "python"}
            return "wrong_language" if example.language and other else None
        if any(_readable(program) or contains_sentences(program) for program in programs):
            return None
        if detect_text_language(text) not in ("", "python"):
            return "wrong_language"
        # Without any sign of Python it is a formula, a result, or something else.
        signs = any(PYTHON.search(program[:SHOWN_CHARACTERS]) for program in programs)
        return "syntax_error" if signs else None
    if not language:
        return None
    programs = programs or [block.code for block in find_code_blocks(text)]
    alone = any(PYTHON_ALONE.search(program) and is_valid_python(program) for program in programs)
    return "wrong_language" if alone else None


def _readable(program: str) -> bool:
    """Whether it is Python, or a header whose body is left to the reader."""
    return any(
        map(is_valid_python, (program, textwrap.dedent(program), program.rstrip() + " pass"))
    )


def prose_for_code(example: Example) -> str | None:
    """Code was asked for, and the answer talks."""
    asked = ASKS_FOR_CODE.search(example.instruction) and not ASKS_FOR_WORDS.search(
        example.instruction
    )
    return "prose_for_code" if asked and is_prose(example.output) else None


def impossible(example: Example) -> str | None:
    """The model itself is to draw, play, open or fetch something, and code is not the answer."""
    asked = IMPOSSIBLE.match(example.instruction)
    coded = is_code(example.output) or find_code_blocks(example.output)
    return "impossible" if asked and not coded else None


def secrets(example: Example) -> str | None:
    """Keys and tokens in the form that their makers give them (detect-secrets), or Hub tokens."""
    for text in _texts(example):
        if HUB_TOKEN.search(text) or any(
            next(iter(plugin.analyze_string(text)), None) for plugin in _secret_plugins()
        ):
            return "secret"
    return None


def personal_data(example: Example) -> str | None:
    """E-mail addresses of people, not those that examples are made of.

    An address names somebody by first and last name, or by a name at an employer. A first name
    at a public mail provider (dan@gmail.com) names nobody; nor does any address at one where the
    task is about addresses as such, and needs some to work on.
    """
    about = ABOUT_ADDRESSES.search(example.instruction)
    for text in _texts(example):
        for found in EMAIL.finditer(text):
            name, domain = found["name"], found["domain"]
            if EXAMPLE_DOMAIN.search(domain) or EXAMPLE_NAME.match(name):
                continue
            if MAIL_PROVIDER.match(domain) and (about or SHORT_NAME.match(name)):
                continue
            return "personal_data"
    return None


def licence_header(example: Example) -> str | None:
    """Code that was copied with its licence, unless licences are what was asked about."""
    if re.search(r"licen[sc]e|copyright", example.instruction, re.IGNORECASE):
        return None
    copied = LICENCE.search(example.output) or LICENCE.search(example.input)
    return "licence_header" if copied else None


def _texts(example: Example) -> tuple[str, str, str]:
    return example.instruction, example.input, example.output


BLACKLIST_2023 = re.compile(
    r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to|video|audio|music|flowchart|"
    r"diagram)\b",
    re.IGNORECASE,
)


def legacy_2023(example: Example) -> str | None:
    """What Code Alpaca dropped in 2023, to the letter; for reproducing its results alone.

    Its word list costs one real row in six, hash maps and CSV among them.
    """
    text = example.instruction
    if not 3 < len(text.split()) <= 150:
        return "legacy_length"
    if BLACKLIST_2023.search(text):
        return "legacy_blacklist"
    if text.startswith("Write a program"):
        return "legacy_write_a_program"
    if text[0] in string.punctuation or not text[0].isascii():
        return "legacy_first_character"
    return None


FILTERS: dict[str, Callable[[Example], str | None]] = {
    check.__name__: check
    for check in (
        empty,
        instruction_length,
        output_length,  # before all that read a whole text
        not_text,
        refusal,
        prompt_leak,
        unbalanced_fence,
        cut_off,
        language_sanity,
        prose_for_code,
        impossible,
        secrets,
        personal_data,
        licence_header,
        legacy_2023,
    )
}
DEFAULT_FILTERS = (*(name for name in FILTERS if name != legacy_2023.__name__), "duplicate_output")
FILTER_NAMES = (*FILTERS, "duplicate_output")


@cache
def _secret_plugins() -> tuple:
    """Those of detect-secrets that know a form; its guesses by entropy drop good examples."""
    from detect_secrets.plugins import (
        aws,
        azure_storage_key,
        discord,
        github_token,
        gitlab_token,
        jwt,
        npm,
        openai,
        private_key,
        pypi_token,
        sendgrid,
        slack,
        stripe,
        telegram_token,
        twilio,
    )

    return (
        aws.AWSKeyDetector(),
        azure_storage_key.AzureStorageKeyDetector(),
        discord.DiscordBotTokenDetector(),
        github_token.GitHubTokenDetector(),
        gitlab_token.GitLabTokenDetector(),
        jwt.JwtTokenDetector(),
        npm.NpmDetector(),
        openai.OpenAIDetector(),
        private_key.PrivateKeyDetector(),
        pypi_token.PypiTokenDetector(),
        sendgrid.SendGridDetector(),
        slack.SlackDetector(),
        stripe.StripeDetector(),
        telegram_token.TelegramBotTokenDetector(),
        twilio.TwilioKeyDetector(),
    )
