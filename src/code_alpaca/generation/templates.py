"""Load and render the prompt templates, the built-in ones or a user's own.

`prompts: DIR` overrides built-in templates by name: `DIR/rules.jinja` replaces the rules in every
prompt that includes them. The hash of a strategy's templates is the `prompt_version` of its rows.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from code_alpaca.core.errors import InputError

SUFFIX = ".jinja"


class PromptTemplates:
    """The templates of a run by name.

    Args:
        directory: a folder of templates that override built-in ones of the same name.
        extra_names: templates of a user's strategy, which may be in that folder, too.

    Raises:
        InputError: the folder has no template, or one that overrides nothing or is not valid.
    """

    def __init__(self, directory: Path | None = None, extra_names: Iterable[str] = ()) -> None:
        self._sources = _read_built_in()
        self._paths: dict[str, Path] = {}
        if directory is not None:
            self._paths = _find_overrides(directory, {*self._sources, *extra_names})
            self._sources |= {name: _read(path) for name, path in self._paths.items()}
        self._environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            loader=jinja2.FunctionLoader(self._sources.get),
        )
        # Jinja's own tojson escapes < > & ' for HTML, which would change code.
        self._environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        for name in self._paths:
            self._compile(name)

    def render(self, name: str, **values: Any) -> str:
        """Return a template filled with values; raise InputError if it needs others."""
        template = self._compile(name)
        try:
            return template.render(**values)
        except (jinja2.TemplateError, TypeError) as error:
            raise InputError(f"prompt template {self._paths.get(name, name)}: {error}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all templates, sorted."""
        return tuple(sorted(self._sources))

    def version(self, *names: str) -> str:
        """Return eight hex digits of the SHA-256 over the sources of templates."""
        text = "\0".join(self._sources.get(name, "") for name in names)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _compile(self, name: str) -> jinja2.Template:
        try:
            return self._environment.get_template(name)
        except jinja2.TemplateSyntaxError as error:
            broken = error.name or name  # may be included
            place = f"{self._paths.get(broken, broken)}, line {error.lineno}"
            raise InputError(f"prompt template {place}: {error.message}") from None
        except jinja2.TemplateNotFound:
            hint = f"add {name}{SUFFIX} to the folder `prompts`"
            raise InputError(f"there is no prompt template {name!r}; {hint}") from None


def _read_built_in() -> dict[str, str]:
    folder = resources.files("code_alpaca").joinpath("generation/prompts")
    return {
        file.name.removesuffix(SUFFIX): file.read_text("utf-8")
        for file in folder.iterdir()
        if file.name.endswith(SUFFIX)
    }


def _find_overrides(directory: Path, valid: set[str]) -> dict[str, Path]:
    if not directory.is_dir():
        raise InputError(f"prompts {directory} is not a folder; give one with NAME{SUFFIX} files")
    found = {path.stem: path for path in sorted(directory.glob(f"*{SUFFIX}"))}
    names = ", ".join(sorted(valid))
    if not found:
        raise InputError(f"prompts {directory} contains no {SUFFIX} file; templates are {names}")
    for name, path in found.items():
        if name not in valid:
            nearest = difflib.get_close_matches(name, sorted(valid), n=1)
            hint = f"did you mean {nearest[0]}{SUFFIX}?" if nearest else "it overrides nothing;"
            raise InputError(f"{path}: {hint} templates are {names}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read prompt template {path}: {error}") from None
