"""Load and render the prompt templates, the built-in ones or a user's own.

`prompts: DIR` overrides built-in templates by name: `DIR/rules.jinja` replaces the rules in every
prompt that includes them. It may also contain the templates of a user's strategy. The hash of a
strategy's templates is the `prompt_version` of its rows.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.core.plugins import PluginError

SUFFIX = ".jinja"


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
        self._paths: dict[str, Path] = {}
        if directory is not None:
            self._paths = _find_templates(directory, set() if allow_new else set(self._sources))
            self._sources |= {name: _read(path) for name, path in self._paths.items()}
        self._environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            loader=jinja2.FunctionLoader(self._load),
        )
        # Jinja's own tojson escapes < > & ' for HTML, which would change code.
        self._environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        for name in self._paths:
            self._compile(name)

    def render(self, name: str, **values: Any) -> str:
        """Return a template filled with values; raise PluginError if it fails."""
        template = self._compile(name)
        try:
            return template.render(**values)
        except Exception as error:
            files = {self._name_file(name) for name in self._sources}
            frames = traceback.extract_tb(error.__traceback__)
            place = [f"{f.filename}, line {f.lineno}" for f in frames if f.filename in files]
            hint = ""
            if isinstance(error, jinja2.UndefinedError):
                hint = f"; the template gets {', '.join(sorted(values.keys() - {'wish'}))}"
            raise PluginError(
                f"prompt template {(place or [self._name_file(name)])[-1]}: {error}{hint}"
            ) from None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all templates, sorted."""
        return tuple(sorted(self._sources))

    def version(self, *names: str) -> str:
        """Return eight hex digits of the SHA-256 over the sources of templates."""
        text = "\0".join(self._sources.get(name, "") for name in names)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _load(self, name: str) -> tuple[str, str, None] | None:
        found = self._sources.get(name)
        return None if found is None else (found, self._name_file(name), None)

    def _name_file(self, name: str) -> str:
        return str(self._paths.get(name, f"{name}{SUFFIX}"))

    def _compile(self, name: str) -> jinja2.Template:
        try:
            return self._environment.get_template(name)
        except jinja2.TemplateSyntaxError as error:
            place = f"{error.filename}, line {error.lineno}"  # of one that may be included
            raise InputError(f"prompt template {place}: {error.message}") from None
        except jinja2.TemplateNotFound:
            raise InputError(
                f"there is no prompt template {name!r}; put {name}{SUFFIX} into a folder and set "
                "the key prompts to it"
            ) from None


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
        raise InputError(f"prompts {directory} contains no {SUFFIX} file")
    for name in found.keys() - valid if valid else ():
        hint = did_you_mean(name, sorted(valid), "it overrides nothing;")
        raise InputError(f"{found[name]}: {hint} templates are {', '.join(sorted(valid))}")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read prompt template {path}: {error}") from None
