"""Find the root verb of an instruction and its direct object.

Self-Instruct (Wang et al. 2022, arXiv:2212.10560) describes a dataset by these pairs, found by a
parser. Instructions about code are nearly all imperative, so word lists and word order find most
of the same pairs without a model to download. A wrong pair is worse than none, so precision comes
before recall: "What is a stack?" has no pair.
"""

from __future__ import annotations

import re

MAX_INSTRUCTION = 2_000  # characters read; the verb comes early
MAX_WORD = 30  # characters; longer words are code or noise


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VERBS = _words("""
    access achieve add adjust alter amend analyse analyze annotate answer append apply arrange
    assign author automate break brainstorm build calculate call capitalize categorize change
    check choose classify clean clear code combine come comment compare compile complete compose
    compress compute concatenate conclude configure connect construct convert copy correct count
    craft create debug declare decode decorate decrypt define delete deploy derive describe
    design detect determine develop devise diagnose differentiate discuss display divide
    document draft draw edit eliminate embed enclose encode encrypt enhance enumerate establish
    estimate evaluate examine execute expand explain explore express extend extract factor fetch
    figure fill filter find fix flatten flip form format formulate generate get give group guess
    handle highlight identify illustrate implement import improve increase indent initialize
    input insert inspect install instantiate integrate interpret invent invert iterate join
    label list load locate log loop make manipulate map mark match measure merge minify modify
    monitor move multiply name normalize obtain offer open optimize order organize outline
    output override parse perform pick plan plot point predict prepare present print produce
    program propose prove provide pull query randomize rank read rearrange recommend reconstruct
    record redesign reduce refactor reformat remove rename reorder reorganize repair repeat
    replace report represent research resolve restructure retrieve return reverse revise rewrite
    rotate round run sanitize save scan scrape script search select send separate serialize set
    shorten show shuffle simplify simulate sketch solve sort specify split square standardize
    state store strip structure submit substitute subtract suggest sum summarize swap take tell
    test tokenize trace train transform translate transpose traverse trim turn update use
    utilize validate verify visualize write
""") | {"tell"}  # English words as data, not an old name
OPENERS = _words("""
    after and as assume assuming at based because before below by consider considering during
    for from given having here if imagine in inside look on once since starting suppose there to
    under using when while with within without you
""")
POLITE = _words("please kindly now then also first next finally just simply let's lets")
DETERMINERS = _words("""
    a an the this that these those my your our their his her its all any each every some both
    few several many no following given below above provided
""")
NUMBERS = _words("one two three four five six seven eight nine ten another multiple")
PRONOUNS = _words("me us you them yourself")
PARTICLES = _words("out up down off")
# A noun phrase ends before these.
STOPS = _words("""
    of in on for to with from by at as into onto between within without over under through via
    per about against among around across after before during until than like inside outside
    upon using that which who whom whose where when while if whether how why what so such
    because is are was were be been being has have had can could may might must shall should
    will would does do did it they i you he she we not more most less least called named titled
    below above then there instead only too also very until such containing including having
    based equal greater according ascending descending alphabetically faster slower shorter
    longer cleaner better easier simpler thread-safe readable reusable asynchronous uppercase
    lowercase and or but vs versus plus minus times e.g i.e s
""")
# Adjectives that share a noun with the adjective after "and": the first and last element.
ADJECTIVES = _words("""
    maximum minimum max min smallest largest longest shortest highest lowest first last left
    right upper lower odd even positive negative front back odd valid invalid simple short clear
    concise efficient effective safe fast quick secure reusable readable robust small new old
    top bottom
""")
LOOPS = _words("for while if do if-else for-each foreach switch when")
OF_LOOPS = _words("loop loops statement statements clause condition block expression case")
PARTICIPLES = _words("made taken built written given shown held sent found so long")
UNCHANGED = _words("""
    alias analysis atlas aws axes axis basics bias canvas chaos css dns gas graphics gps https
    ios js kubernetes lens mathematics news os pandas rails redis sass series statistics windows
""")
IRREGULAR = {
    "indices": "index", "vertices": "vertex", "matrices": "matrix", "children": "child",
    "people": "person", "men": "man", "women": "woman", "criteria": "criterion",
    "leaves": "leaf", "halves": "half", "movies": "movie", "cookies": "cookie", "caches": "cache",
    "aliases": "alias", "buses": "bus", "databases": "database", "cases": "case",
    "statuses": "status", "viruses": "virus",
}  # fmt: skip
TOKEN = re.compile(r"[A-Za-z]\w*(?:[-./'\u2019][A-Za-z]\w*)*(?:\+\+|#)?|\d[\w.,-]*\w|\S")
QUOTED = re.compile(
    r"`[^`]*`|\"[^\"]*\"|\u201c[^\u201d]*\u201d|(?<!\w)['\u2018][^'\u2019\n]*['\u2019](?!\w)"
)
SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")
# Words before the verb of a request: "can you", "how do I", "your task is to".
REQUEST_PREFIX = re.compile(
    r"(?:^|(?<=, )|(?<= and ))(?:please )?"
    r"(?:(?:can|could|would|will) you(?: please)?(?: help me(?: to)?)?"
    r"|how (?:can|could|would|should|do|does|might) (?:you|i|we|one|someone)|how to"
    r"|what(?:'s| is| would be) (?:the|a) (?:best |most \w+ |\w+est )?way to"
    r"|(?:i|we)(?: would|'d)? (?:want|need|like)(?: you)? to"
    r"|you (?:need|have|want|are asked|are required|are tasked) to|you (?:should|must)"
    r"|(?:your|the) (?:task|job|goal) is to|help me(?: to)?|(?:try|attempt) to)\s",
    re.IGNORECASE,
)


def verb_and_object(instruction: str) -> tuple[str, str] | None:
    """Return the root verb and the head noun of its object, in lower case and singular, or None.

    "Given an array, write two Python functions that ..." has the pair ("write", "function").
    """
    text = QUOTED.sub(" ` ", instruction[:MAX_INSTRUCTION])
    for sentence in SENTENCE.split(text):
        prefix = REQUEST_PREFIX.search(sentence.strip())
        request = sentence.strip()[prefix.end() :] if prefix else sentence
        words = [word.lower() for word in TOKEN.findall(request)]
        verb = _verb(words)
        if verb is not None:
            noun = _head(words, _object(words, verb + 1))
            return (words[verb], _singular(noun)) if noun else None
    return None


def _verb(words: list[str]) -> int | None:
    """Return the index of the imperative: the first word, or after an introductory clause."""
    start = 0
    while start < len(words) and (words[start] in POLITE or not words[start][0].isalnum()):
        start += 1
    if start == len(words):
        return None
    if words[start] not in OPENERS:
        return start if _is_verb(words, start) else None
    candidates = range(start + 2, len(words) - 1)
    for index in candidates:
        before = index - 2 if words[index - 1] in POLITE else index - 1
        if words[before] == "," and _is_verb(words, index):
            return index
    for index in candidates:  # no comma
        if (
            words[index] in VERBS
            and words[index + 1] in DETERMINERS
            and words[index - 1] not in STOPS
            and words[index - 1] not in DETERMINERS
        ):
            return index
    return None


def _is_verb(words: list[str], index: int) -> bool:
    """Return whether a word is a known verb, or a word of no other class before an article."""
    word, after = words[index], words[index + 1] if index + 1 < len(words) else ""
    if word in VERBS:
        return True
    other = word in STOPS or word in OPENERS or word in DETERMINERS or word in PRONOUNS
    return not other and word.isalpha() and after in ("a", "an", "the", "this", "these")


def _object(words: list[str], index: int) -> int:
    """Return the index of the object, skipping "and replace", "me", "out" and "quickly"."""
    while index < len(words):
        if words[index] in ("and", "or", "/", "&") and words[index + 1 : index + 2] != []:
            if words[index + 1] not in VERBS:
                break
            index += 2
        elif words[index] in PRONOUNS or words[index] in PARTICLES or words[index].endswith("ly"):
            index += 1
        else:
            break
    return index


def _head(words: list[str], index: int) -> str | None:
    """Return the head of the noun phrase that starts at `index`, without its postmodifiers."""
    head = None
    while index < len(words):
        word, after = words[index], words[index + 1] if index + 1 < len(words) else ""
        further = words[index + 2] if index + 2 < len(words) else ""
        if word in LOOPS and after in OF_LOOPS:
            head, index = after, index + 1
        elif word in NUMBERS or word[0].isdigit():
            if after == "times" or further == "long":
                break  # "print a string 10 times", "a password 8 characters long"
        elif word in ("of", "most", "more", "least", "less") and head is None:
            pass  # "all of the", "the most frequent"
        elif word in DETERMINERS:
            if head is not None:
                break
        elif word == "`":
            pass  # "the `total` function"
        elif word in ("and", "or", ",", "/") and words[index - 1] in ADJECTIVES:
            if after in DETERMINERS:
                break
            # "maximum and minimum values"
        elif word in STOPS or not word[0].isalpha() or (head and _trails(word, after)):
            break
        elif head is None or len(word) > 1:  # "a new list C"
            head = word
        index += 1
    return head if head is not None and len(head) <= MAX_WORD else None


def _trails(word: str, after: str) -> bool:
    """Return whether a word after a noun modifies it: "list sorted by", "array holding the"."""
    if word.endswith("ing"):
        return after in DETERMINERS
    ended = not after or not after[0].isalnum() or after in STOPS or after in DETERMINERS
    about = word.endswith(("ed", "ly")) and not word.endswith("eed")
    return (ended or after in PARTICLES) and (about or word in PARTICIPLES)


def _singular(noun: str) -> str:
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    is_plural = noun.endswith("s") and not noun.endswith(("ss", "us", "is", "'s", "\u2019s"))
    if noun in UNCHANGED or not is_plural:
        return noun
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("ches", "shes", "xes", "sses")):
        return noun[:-2]
    return noun[:-1]
