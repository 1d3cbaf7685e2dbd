"""Tokenize conversations with a chat template, for `prompt_style: chat`.

Input ids are those of `apply_chat_template`. Each turn of the assistant contributes to the loss,
from the end of its generation prompt to the end of the turn, as in TRL for prompts and completions
that are messages (https://huggingface.co/docs/trl/sft_trainer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.prompts import default_chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]
PROBE: tuple[Message, Message] = (
    {"role": "user", "content": "question"},
    {"role": "assistant", "content": "answer"},
)


class Segment(NamedTuple):
    """A part of a rendered conversation."""

    text: str
    answer: str | None = None  # of the assistant, if the part contributes to the loss


def prepare_chat_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer a chat template if it has none, and the EOS token with which turns end.

    A base model's EOS token ends a document; generation that follows a conversation has to stop at
    the token that its template writes after an answer.

    Raises:
        InputError: the template cannot render a conversation, or ends a turn without a token that
            generation could stop at.
    """
    require_eos_token(tokenizer)
    if not tokenizer.chat_template:
        tokenizer.chat_template = default_chat_template(tokenizer)
    segments = split_conversation(tokenizer, PROBE)
    ids = tokenizer(segments[-1].text, add_special_tokens=False)["input_ids"]
    special = _special_tokens(tokenizer)
    ends = [token_id for token_id in ids if token_id in special]
    if not ends:
        raise InputError(
            "the chat template of this model ends an answer without a special token, so the model "
            "would never learn to stop; set prompt_style to alpaca_nl"
        )
    if tokenizer.eos_token_id not in ends:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[-1])


def require_eos_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer without a token at which generation stops."""
    if tokenizer.eos_token_id is None:
        raise InputError(
            "the tokenizer has no EOS token, so the model would never learn to stop; set one"
        )


def split_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> list[Segment]:
    """Return a conversation as its template renders it, divided where answers begin and end.

    Raises:
        InputError: the template refuses the conversation, or renders the earlier turns of a longer
            conversation in another way than it did when they were answered.
    """
    segments: list[Segment] = []
    whole, rendered = _render(tokenizer, messages), ""
    for count, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:count], add_generation_prompt=True)
        answered = _render(tokenizer, messages[: count + 1])
        if not whole.startswith(answered):  # some templates write EOS after the last turn only
            answered = answered.removesuffix(tokenizer.eos_token)
        if not (prompt.startswith(rendered) and answered.startswith(prompt)):
            raise InputError(
                "the chat template of this model renders earlier turns in another way than when "
                "they were answered; set first_turn: true to train on the first turn of each row"
            )
        segments.append(Segment(prompt[len(rendered) :]))
        segments.append(Segment(answered[len(prompt) :], message["content"]))
        rendered = answered
    return segments


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[bool]]:
    """Return the token ids of a conversation, and for each whether it contributes to the loss.

    Segments are tokenized separately where a token would cross the end of a prompt, since
    inference gets the prompt without the answer, and where an answer contains a special token as
    text, which means these characters.
    """
    segments = split_conversation(tokenizer, messages)
    parts = _encode_whole(tokenizer, segments)
    if parts is None or _contains_special_token(tokenizer, segments):
        parts = [_encode_segment(tokenizer, segment) for segment in segments]
    ids = [token for part in parts for token in part]
    pairs = zip(segments, parts, strict=True)
    return ids, [segment.answer is not None for segment, part in pairs for _ in part]


def _encode_whole(
    tokenizer: PreTrainedTokenizerBase, segments: Sequence[Segment]
) -> list[list[int]] | None:
    """Return the tokens of the whole text by segment; None if a token crosses the end of one."""
    ids = _encode(tokenizer, "".join(segment.text for segment in segments))
    parts, text, start = [], "", 0
    for segment in segments:
        text += segment.text
        prefix = _encode(tokenizer, text)
        if ids[: len(prefix)] != prefix:
            return None
        parts.append(prefix[start:])
        start = len(prefix)
    return parts


def _encode_segment(tokenizer: PreTrainedTokenizerBase, segment: Segment) -> list[int]:
    answer = segment.answer
    if answer is None or not segment.text.startswith(answer):
        return _encode(tokenizer, segment.text)
    content = tokenizer(answer, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [*content, *_encode(tokenizer, segment.text.removeprefix(answer))]


def _contains_special_token(
    tokenizer: PreTrainedTokenizerBase, segments: Sequence[Segment]
) -> bool:
    answers = "".join(segment.answer or "" for segment in segments)
    return any(token in answers for token in _special_tokens(tokenizer).values())


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the text of each special token by its id, also of those without a name."""
    named = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    added = tokenizer.added_tokens_decoder.items()
    return dict(named) | {token_id: str(token) for token_id, token in added if token.special}


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **options: Any) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, **options)
    except TemplateError as error:  # its own raise_exception, too
        raise InputError(
            f"the chat template of this model refuses a conversation ({error_message(error)})"
        ) from None
