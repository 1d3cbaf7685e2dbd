"""Convert a SentencePiece BPE model to a `tokenizer.json` that produces the same token ids.

The two libraries differ. SentencePiece ranks a merge by the score of the resulting piece, while
loading its file in `tokenizers` ranks by id. SentencePiece prepends `▁` to every text, also to one
that begins with a space, where `LlamaTokenizer` omits it. So the pipeline is built here and
compared with SentencePiece on texts that are known to break tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import PreTrainedTokenizerFast

SPACE = "▁"  # U+2581, the space in SentencePiece
PROBES = (
    "", " ", "  ", "a", " a", "  a", "a ", "a  ", "\t", "\ta", "a\t\tb", "\n", "\n\n", "\n a\n\n",
    "\r\n", "a\r\nb", "one  two   three    four     five      six       seven        eight",
    "def f(x):\n    if x:\n        return [y**2 for y in x]\n\treturn {'a': 1, \"b\": None}\n",
    "    return a[i:j] != b  # 100% <= 3.14e-10 && ~x\n", "<html>\n  <p class=\"q\">&nbsp;</p>\n",
    "SELECT * FROM t WHERE id=1;--", "a_b.c->d::e /* f */ // g", "0 1 22 333 4444 1,000,000.00",
    "naïve café Ünïcödé Straße", "e\u0301 \ufb01 \u00bd \uff12", "Привет, мир", "日本語のテキスト",
    "한국어", "עברית العربية", "🙂👩\u200d💻🇺🇳", "\u00a0\u2003\u3000\ufeff\u200b", "\U0010ffff",
    "\x00\x01\x7f", "▁", "▁a▁▁b", "aaaaaaaaaaaaaaaaa", "----------------", "<0x0A>", "[INST] <<",
    "### Instruction:\nSort.\n\n### Input:\n[3, 1]\n\n### Response:",
)  # fmt: skip


def load_sentencepiece(path: Path) -> SentencePieceProcessor:
    """Load a SentencePiece model that has BOS, EOS and unknown tokens."""
    from sentencepiece import SentencePieceProcessor

    try:
        model = SentencePieceProcessor(model_proto=path.read_bytes())
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot read {path} as a SentencePiece model ({error})") from None
    if min(model.bos_id(), model.eos_id(), model.unk_id()) < 0:
        raise InputError(f"{path} has no BOS, EOS or unknown token; use LLaMA's tokenizer.model")
    return model


def build_tokenizer(model: SentencePieceProcessor, max_length: int) -> PreTrainedTokenizerFast:
    """Build the equivalent tokenizer for transformers, with BOS first and byte fallback.

    Special tokens are the only intended difference: `</s>` within a text is the EOS token here,
    and four characters in SentencePiece.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import generate_merges

    vocab = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    scores = [(piece, model.get_score(i)) for piece, i in vocab.items()]
    bos, eos, unk = map(model.id_to_piece, (model.bos_id(), model.eos_id(), model.unk_id()))
    merges = generate_merges(vocab, scores)
    bpe = models.BPE(vocab=vocab, merges=merges, unk_token=unk, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    to_text = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*to_text, decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, model.bos_id())]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        unk_token=unk,
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
        padding_side="left",
    )


def check_tokenizer(
    tokenizer: PreTrainedTokenizerFast, model: SentencePieceProcessor, texts: Iterable[str] = PROBES
) -> None:
    """Require the token ids and the decoded texts of SentencePiece."""
    if (tokenizer.bos_token_id, tokenizer.eos_token_id) != (model.bos_id(), model.eos_id()):
        raise InputError(
            f"the converted tokenizer has BOS and EOS ids {tokenizer.bos_token_id} and "
            f"{tokenizer.eos_token_id}, SentencePiece {model.bos_id()} and {model.eos_id()}"
        )
    for text in texts:
        expected, actual = [model.bos_id(), *model.encode(text)], tokenizer(text).input_ids
        if actual != expected:
            raise InputError(
                f"the converted tokenizer encodes {text!r} as {actual}, SentencePiece as "
                f"{expected}; only BPE models with byte fallback and without normalization can be "
                "converted, such as those of LLaMA 1 and 2"
            )
        decoded = tokenizer.decode(actual, skip_special_tokens=True)
        if decoded != model.decode(expected[1:]):
            raise InputError(f"the converted tokenizer decodes the ids of {text!r} as {decoded!r}")
