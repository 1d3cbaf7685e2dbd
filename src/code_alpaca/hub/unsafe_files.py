"""Find files that must not be released unseen: symbolic links, code and pickles."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"}
CODE = {".py", ".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib"}


def is_code_or_pickle(name: str) -> bool:
    """Return whether loading or importing a file of this name can run code."""
    return PurePosixPath(name).suffix.lower() in PICKLES | CODE


def find_symlinks(folder: Path) -> list[str]:
    """Return the symbolic links below a folder, as paths relative to it."""
    paths = sorted(folder.rglob("*"))
    return [path.relative_to(folder).as_posix() for path in paths if path.is_symlink()]
