"""List the programming languages: names, aliases, fence tags, lexers, interpreters.

To add a language, add a row. The meaning of a name depends on its place: in an instruction, "go" is
usually a verb, and after a fence it is a language. A row therefore lists names by place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """A programming language, or a data format that answers contain."""

    name: str  # canonical, in lower case, as in a dataset's language column
    display: str  # its name in text
    words: tuple[str, ...] = ()  # its other full names in an instruction
    aliases: tuple[str, ...] = ()  # short names and dialects in an instruction
    tags: tuple[str, ...] = ()  # other names after a fence or in a dataset's language column
    hints: tuple[str, ...] = ()  # words of an instruction that suggest it if it names no language
    lexer: str = ""  # its Pygments lexer, if that is fast on any text
    interpreter: str = ""  # the program that runs it
    in_prose: bool = True  # its name in an instruction refers to the language
    is_code: bool = True  # false for data formats

    @property
    def prose_names(self) -> tuple[str, ...]:
        """The full names that refer to the language in an instruction."""
        return (self.name, *self.words) if self.in_prose else self.words

    @property
    def fence(self) -> str:
        """The tag to write after a fence; Markdown renderers do not accept `c++`."""
        return self.name if self.name.isalnum() else (*self.tags, self.name)[0]


TABLE = (
    Language("typescript", "TypeScript", aliases=("ts",), tags=("tsx", "mts"), lexer="typescript"),
    Language("javascript", "JavaScript", aliases=("js",), tags=("jsx", "node", "mjs"),
             hints=("node.js", "nodejs", "react"), lexer="javascript", interpreter="node"),
    Language("java", "Java", lexer="java"),
    Language("sql", "SQL", aliases=("mysql", "postgresql", "sqlite"),
             tags=("postgres", "tsql", "plsql"), lexer="sql"),
    Language("html", "HTML", lexer="html"),
    Language("css", "CSS", lexer="css"),
    Language("php", "PHP", lexer="php"),
    Language("c++", "C++", tags=("cpp", "cc", "cxx"), hints=("cpp",), lexer="c++"),
    Language("c#", "C#", tags=("csharp", "cs"), lexer="c#"),
    Language("f#", "F#", tags=("fsharp", "fs")),
    Language("rust", "Rust", tags=("rs",), lexer="rust"),
    Language("go", "Go", aliases=("golang",), hints=("go",), lexer="go", in_prose=False),
    Language("bash", "Bash", words=("shell",), tags=("sh", "zsh"), hints=("linux",), lexer="bash",
             interpreter="bash"),
    Language("powershell", "PowerShell", tags=("ps1",), lexer="powershell"),
    Language("ruby", "Ruby", tags=("rb",), lexer="ruby"),
    Language("kotlin", "Kotlin", tags=("kt",), lexer="kotlin"),
    Language("swift", "Swift", lexer="swift"),
    Language("scala", "Scala", lexer="scala"),
    Language("dart", "Dart", lexer="dart"),
    Language("haskell", "Haskell", tags=("hs",), lexer="haskell"),
    Language("lua", "Lua", lexer="lua"),
    Language("perl", "Perl", tags=("pl",), lexer="perl"),
    Language("julia", "Julia", lexer="julia"),
    Language("elixir", "Elixir", lexer="elixir"),
    Language("matlab", "MATLAB", lexer="matlab"),
    Language("r", "R", lexer="r", in_prose=False),
    Language("vb.net", "Visual Basic .NET", tags=("vbnet", "vb"), lexer="vb.net", in_prose=False),
    Language(".net", ".NET", tags=("dotnet",)),
    Language("assembly", "Assembly", tags=("asm",)),
    Language("awk", "AWK"),
    Language("clojure", "Clojure", tags=("clj",)),
    Language("cobol", "COBOL"),
    Language("erlang", "Erlang"),
    Language("fortran", "Fortran"),
    Language("groovy", "Groovy"),
    Language("lisp", "Lisp"),
    Language("ocaml", "OCaml", tags=("ml",)),
    Language("pascal", "Pascal"),
    Language("prolog", "Prolog"),
    Language("sas", "SAS"),
    Language("solidity", "Solidity", tags=("sol",)),
    Language("vba", "VBA"),
    Language("yaml", "YAML", tags=("yml",), lexer="yaml", is_code=False),
    Language("json", "JSON", lexer="json", is_code=False),
    Language("toml", "TOML", lexer="toml", is_code=False),
    Language("xml", "XML", lexer="xml", is_code=False),
    Language("c", "C", lexer="c"),
    Language("python", "Python", aliases=("python2", "python3"), tags=("py", "ipython", "pycon"),
             lexer="python", interpreter="python3"),
)  # fmt: skip
# Tags of fences that contain text.
TEXT_TAGS = {"text", "txt", "plaintext", "plain", "output", "console", "markdown", "md", "diff",
             "csv", "log"}  # fmt: skip
_BY_NAME = {
    name: language
    for language in TABLE
    for name in (language.name, *language.words, *language.aliases, *language.tags)
}
# Names of languages in an instruction, without the short ones; and all of them: name -> language.
NAMES = frozenset(name for language in TABLE if language.is_code for name in language.prose_names)
PROSE_NAMES = {
    **{name: _BY_NAME[name].name for name in NAMES},
    **{alias: language.name for language in TABLE for alias in language.aliases},
}


def find(name: str) -> Language | None:
    """Return the language that a column, a fence or a benchmark names, or None."""
    return _BY_NAME.get(name.strip().lower())


def canonical(name: str) -> str:
    """Return the canonical name of a language, `bash` for "Shell"; other names in lower case."""
    language = find(name)
    return language.name if language else name.strip().lower()


def fence_language(tag: str) -> str:
    """Return the programming language that a fence's tag names, or ""."""
    language = find(tag)
    return language.name if language and language.is_code else ""


def highlighting() -> dict[str, list[str]]:
    """Return the words of an instruction that suggest each fence tag; Python, the default, last."""
    return {
        language.fence: [*language.prose_names, *language.aliases, *language.hints]
        for language in TABLE
    }
