"""Word lists of decontamination: stopwords, frequent words and synonyms.

Frequent words were counted in 3,155 instructions and problem statements (Code Alpaca,
HumanEval, MBPP).
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOPWORDS = _words(
    "a an the of to in on for with by and or is are that which this it its from as be your you "
    "please using use if whether given write create make build design develop construct generate "
    "implement define find output take following function method program code script algorithm "
    "snippet"
)
# Also ignored where words are weighted: they are in every other task, or have no meaning.
MORE_STOPWORDS = _words(
    "about all also another any at been being but can certain check class compose composed consist "
    "consisting consists contain dd do does done each eg every exist false get had has have help "
    "here how i ie input into just let me mm my need no not only other our own particular per "
    "perform print program provided result return same should so solve some specific specified "
    "such supplied task than their them then there these they those too tool true us want was we "
    "were what when where who whose will without would yyyy"
)
# Of tasks: 3 and 6 bits; all other words are rare and have 10 (see `wording`).
VERY_FREQUENT = _words(
    "biggest between character convert count element first length list n number one query remove 1 "
    "smallest sort string sum table two word"
)
FREQUENT = _words(
    "0 2 3 4 5 10 address age area argument ascend average b binary bit button case column combine "
    "common compose correspond current customer data date dictionary difference digit divisor "
    "duplicate edit email employee empty equal even explain expression extract factorial fibonacci "
    "field follow form format frequency hello id index k key lambda large last line link longest "
    "loop match modify most multiple mysql name natural negative nest new non nth object odd "
    "otherwise out page palindrome parameter point positive possible power prime product random "
    "range record regex regular replace represent reverse rewrite row s salary search second "
    "select sentence separate set size small space square statement store structure suggest three "
    "time tree triangle type unique up user valid variable vowel web within x y"
)
# Words that many programs contain as a list.
LISTED = _words(
    "zero one two three four five six seven eight nine ten eleven twelve monday tuesday wednesday "
    "thursday friday saturday sunday mon tue wed thu fri sat sun january february march april may "
    "june july august september october november december jan feb mar apr jun jul aug sep oct nov "
    "dec red green blue yellow"
)
# Identifiers that most programs may have.
COMMON_IDENTIFIERS = _words(
    "append args array bool boolean break case catch char class console const continue count data "
    "def default dict double elem element else enumerate equal equals except false final find "
    "float for from func function import index input int integer isinstance item items join key "
    "keys lambda len length let list lower main map math max min none not null num number nums "
    "object open output pass print printf println private public push range replace res result "
    "return reverse reversed self set size sort sorted split static std str string strip sub sum "
    "super system temp test text this throw total true try tuple type upper value values var "
    "vector void while with word words yield zip"
)

SYNONYMS = [
    "list array tuple sequence collection vector arrays", "number integer int float value numeral",
    "return give outcome answer obtain compute calculate determine decide detect identify "
    "tell",  # a word of tasks, not an old name
    "contain include present", "string str text", "near close similar",
    "biggest large maximum max great high large greatest largest highest",
    "smallest minimum min low least lowest", "duplicate repeat twice", "difference distance gap",
    "remove delete drop strip eliminate", "element item entry member", "begin start initial",
    "last end final", "two pair both", "1 one once", "0 zero", "sum total add",
    "count amount occurrence occur", "index position", "reverse backward invert",
    "unique different distinct", "convert transform change turn", "combine concatenate join merge",
    "separate split", "sort order arrange", "limit threshold", "character letter char",
    "longest long", "shortest short", "small little",
]  # fmt: skip
