"""Load and render the prompt templates, the built-in ones or a user's own.

`prompts: DIR` overrides built-in templates by name: `DIR/rules.jinja` replaces the rules in every
prompt that includes them. It may also contain the templates of a user's strategy. The hash of a
strategy's templates, with all that they include, is the `prompt_version` of its rows.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta

from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.core.plugins import PluginError
from code_alpaca.core.schema import Example, SeedTask

SUFFIX = ".jinja"
# The built-in templates of the first release. A strategy that declares none may render these, and
# their hash is its version: with others, an old run would not resume in a new release.
UNDECLARED = (
    "alpaca_2023", "evol_instruct", "numbered", "oss_instruct", "rules", "self_instruct",
)  # fmt: skip


class PromptTemplates:
    """The templates of a run by name.

    Args:
        directory: a folder of templates that override built-in ones of the same name.
        allow_new: the folder may have other templates, too, for a user's strategy.

    Raises:
        InputError: the folder has no template, or one that overrides nothing or is not valid.
    """

    def __init__(self, directory: Path | None = None, *, allow_new: bool = False) -> None:
        self._sources = _read_built_in()
        self.built_in = frozenset(self._sources)  # names
        self._directory = directory
        self.users: Mapping[str, Path] = {}  # files in the directory, by template name
        self.rendered: set[str] = set()  # names
        self._included: dict[str, set[str | None]] = {}  # by name; None: a computed name
        if directory is not None:
            self.users = _find_templates(directory, set() if allow_new else set(self.built_in))
            self._sources |= {name: _read(path) for name, path in self.users.items()}
        self._environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            loader=jinja2.FunctionLoader(self._load),
        )
        # Jinja's own tojson escapes < > & ' for HTML, which would change code.
        self._environment.filters["tojson"] = _to_json
        for name in self.users:
            self._compile(name)

    def render(self, name: str, **values: Any) -> str:
        """Return a template filled with values; raise PluginError if it fails."""
        template = self._compile(name)
        self.rendered.add(name)
        try:
            return template.render(**values)
        except Exception as error:
            files = {self._name_file(name) for name in self._sources}
            frames = traceback.extract_tb(error.__traceback__)
            place = [f"{f.filename}, line {f.lineno}" for f in frames if f.filename in files]
            message = str(error)
            if isinstance(error, jinja2.TemplateNotFound):
                message = f"includes the {self._describe_missing(str(error.name))}"
            elif isinstance(error, jinja2.UndefinedError):
                message += f"; the template gets {', '.join(sorted(values.keys() - {'wish'}))}"
                if message.startswith("'dict object'") and "labels" in values:
                    message += (
                        f", and labels has {', '.join(values['labels']) or 'none'} (by the quotas; "
                        "test a label by `is defined`)"
                    )
            raise PluginError(
                f"prompt template {(place or [self._name_file(name)])[-1]}: {message}"
            ) from None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all templates, sorted."""
        return tuple(sorted(self._sources))

    @property
    def undeclared(self) -> tuple[str, ...]:
        """The names of the templates that a strategy may render without declaring them, sorted."""
        return tuple(sorted({*UNDECLARED, *self.users}))

    def source(self, name: str) -> str:
        """Return the text of a template."""
        return self._sources[name]

    def version(self, *names: str) -> str:
        """Return eight hex digits of the SHA-256 over templates and all that they include."""
        included = sorted(self.with_included(names).difference(names))
        text = "\0".join(self._sources[name] for name in (*names, *included))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def with_included(self, names: Iterable[str]) -> set[str]:
        """Return the names of templates and of all that they include, directly or not."""
        found: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name in found or name not in self._sources:
                continue
            found.add(name)
            if name not in self._included:
                syntax_tree = self._environment.parse(self._sources[name])
                self._included[name] = set(meta.find_referenced_templates(syntax_tree))
            # Where a name is computed, any template may be included.
            queue += self._sources if None in self._included[name] else self._included[name]
        return found

    def _load(self, name: str) -> tuple[str, str, None] | None:
        found = self._sources.get(name)
        return None if found is None else (found, self._name_file(name), None)

    def _name_file(self, name: str) -> str:
        return str(self.users.get(name, f"{name}{SUFFIX}"))

    def _describe_missing(self, name: str) -> str:
        folder = f"in {self._directory} or " if self._directory else ""
        target = (
            f"{self._directory}" if self._directory else "a folder and set the key prompts to it"
        )
        action = did_you_mean(name, self._sources, f"put {name}{SUFFIX} into {target}")
        return f"prompt template {name!r}, which is not {folder}among the built-in ones; {action}"

    def _compile(self, name: str) -> jinja2.Template:
        try:
            return self._environment.get_template(name)
        except jinja2.TemplateSyntaxError as error:
            place = f"{error.filename}, line {error.lineno}"  # of one that may be included
            raise InputError(f"prompt template {place}: {error.message}") from None
        except jinja2.TemplateNotFound:
            raise PluginError(f"there is no {self._describe_missing(name)}") from None


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_refuse_json)


def _refuse_json(value: Any) -> None:
    kind, advice = type(value).__name__, ""
    if isinstance(value, SeedTask | Example):
        advice = "; pass prompt_fields(task)"
    raise TypeError(f"an object of type {kind} is not JSON serializable{advice}")


def _read_built_in() -> dict[str, str]:
    folder = resources.files("code_alpaca").joinpath("generation/prompts")
    return {
        file.name.removesuffix(SUFFIX): file.read_text("utf-8")
        for file in folder.iterdir()
        if file.name.endswith(SUFFIX)
    }


def _find_templates(directory: Path, valid: set[str]) -> dict[str, Path]:
    """Return the templates in a folder by name, which must be valid unless `valid` is empty."""
    if not directory.is_dir():
        raise InputError(f"prompts {directory} is not a folder; give one with NAME{SUFFIX} files")
    found = {path.stem: path for path in sorted(directory.glob(f"*{SUFFIX}"))}
    if not found:
        raise InputError(
            f"prompts {directory} contains no {SUFFIX} file; name each template NAME{SUFFIX}"
        )
    for name in found.keys() - valid if valid else ():
        hint = did_you_mean(name, sorted(valid), "it overrides nothing;")
        raise InputError(f"{found[name]}: {hint} templates are {', '.join(sorted(valid))}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read prompt template {path}: {error}") from None
