"""Files that must not be released unseen: links, and what runs code where it is loaded."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"}
CODE = {".py", ".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib"}


def is_code_or_pickle(name: str) -> bool:
    """Tell by its name whether a file runs what it holds where it is loaded or imported."""
    return PurePosixPath(name).suffix.lower() in PICKLES | CODE


def find_symlinks(folder: Path) -> list[str]:
    """Return the symbolic links below a folder, by their paths in it."""
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink()
    ]
