"""A command that lacks an extra names it, and the command that installs it."""

from __future__ import annotations

import re

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.core.extras import (
    explain_missing_package,
    install_command,
    installed_versions,
    require_package,
)


def test_an_installed_package_is_not_mentioned():
    require_package("pydantic")
    assert installed_versions("pydantic", "no-such-package").keys() == {"code-alpaca", "pydantic"}


@pytest.mark.parametrize(
    ("module", "extra"),
    [("trl", "train"), ("torch.nn", "eval"), ("gradio", "demo"), ("liger_kernel", "gpu"),
     ("bitsandbytes", "qlora"), ("datatrove", "scale")],
)  # fmt: skip
def test_a_missing_package_names_the_smallest_extra(module, extra):
    explained = explain_missing_package(ModuleNotFoundError(name=module))
    package = module.partition(".")[0]
    assert str(explained) == f"{package} is not installed; {install_command(extra)}"


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError(name="helper"), ModuleNotFoundError(), ImportError("torch")]
)
def test_any_other_failed_import_is_a_bug(error):
    assert explain_missing_package(error) is None


def test_a_required_package_is_looked_up_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "loud.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    require_package("loud")
    with pytest.raises(InputError, match="no_such_package is not installed; pip install"):
        require_package("no_such_package")


def test_the_command_installs_from_where_this_installation_came():
    """Not from the package index, where the name may belong to anyone."""
    command = install_command("train")
    assert re.fullmatch(r"pip install (-e '?\S+\[train\]'?|'code-alpaca\[train\] @ \S+')", command)
