"""Explain a missing package: the extra of setup.cfg that contains it, and how to install that.

The base installs what making data needs; training, evaluation and the demo are extras.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from importlib import metadata
from importlib.util import find_spec

from code_alpaca import __version__
from code_alpaca.core.errors import InputError

DISTRIBUTION = "code-alpaca"
REQUIREMENT = re.compile(r"([\w.-]+).*extra == [\"']([\w-]+)[\"']")
COMBINED = ("all", "dev")  # extras that contain others: never the smallest one to install


def require_package(module: str) -> None:
    """Raise InputError unless a module of an extra can be imported; nothing is imported."""
    if find_spec(module) is None:
        raise _missing(module)


def explain_missing_package(error: Exception) -> InputError | None:
    """Return what to install after a failed import; None unless an extra contains the package."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return _missing(module) if _extras_with(module) else None


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this installation, from where it came."""
    name = f"{DISTRIBUTION}[{extra}]"
    origin = json.loads(metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    url, version_control = origin.get("url", ""), origin.get("vcs_info")
    if origin.get("dir_info", {}).get("editable"):
        folder = url.removeprefix("file://")
        return f"pip install -e {shlex.quote(f'{folder}[{extra}]')}"
    if version_control:
        url = f"{version_control['vcs']}+{url}@{version_control['commit_id']}"
    return f"pip install {shlex.quote(f'{name} @ {url}' if url else f'{name}=={__version__}')}"


def installed_versions(*packages: str) -> dict[str, str]:
    """Return the versions of those packages that are installed, and of code-alpaca."""
    versions = {DISTRIBUTION: __version__}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _missing(module: str) -> InputError:
    extra = next(iter(_extras_with(module)), "all")
    return InputError(f"{module} is not installed; {install_command(extra)}")


def _extras_with(module: str) -> list[str]:
    """Return the extras that list the package of a module, in alphabetical order."""
    package = module.replace("_", "-")
    found = map(REQUIREMENT.match, metadata.requires(DISTRIBUTION) or [])
    extras = {match[2] for match in found if match and match[1] == package}
    return sorted(extras - set(COMBINED))
