"""One folder for each child of the zygote: empty at its start, gone after its end.

Other children do not get in: by Landlock, or, where the kernel has none, because they cannot
list the folder above and the names are not to be guessed.
"""

from __future__ import annotations

import contextlib
import os

import folder
import lock

MOST_CLEANERS = 8


class Folders:
    """Makes and removes the folders below `config["writable"]`, with their Landlock rules."""

    def __init__(self, config: dict) -> None:
        self._top, self._in_memory = config["writable"], config["alone"]
        self._readable = config["readable"] if config["landlock"] else None
        self._hidden = self._in_memory and not config["landlock"]
        self._rulesets: dict[str | None, int] = {}
        # Those that no child has touched, which the next may take as they are: when made.
        self._made: dict[str, int] = {}
        self._free: set[str] = set()
        self._cleaners: list[int] = []
        self._ended = 0
        self._hide()

    def make(self, name: str, files: dict[str, str]) -> str:
        """An empty folder but for these files."""
        path = os.path.join(self._top, name)
        while path not in self._free and os.path.lexists(path):
            path += "+"  # another child of this kind is at work
        if path in self._free:
            self._free.remove(path)
        else:
            self._show()
            os.mkdir(path, 0o700)
            self._made[path] = os.stat(path).st_ctime_ns
            self._hide()
        for given, text in files.items():
            target = os.path.join(path, given)
            with open(target, "w", encoding="utf-8", errors="surrogatepass") as file:
                file.write(text)
        return path

    def ruleset(self, path: str | None) -> int | None:
        """Descriptor of the Landlock rules of a child that may write there; None without them."""
        if self._readable is None:
            return None
        if path not in self._rulesets:
            self._rulesets[path] = lock.landlock_ruleset(self._readable, path)
        return self._rulesets[path]

    def release(self, path: str) -> None:
        """Remove what a dead child left; on a slow disk that must not keep the next one waiting.

        Raises:
            OSError: it could not be removed; use this sandbox no more.
        """
        # One that was written in and is empty again can tell the next child so, by its size.
        if not self._hidden and os.stat(path).st_ctime_ns == self._made[path]:
            self._free.add(path)
            return
        if path in self._rulesets:
            os.close(self._rulesets.pop(path))
        self._show()
        if self._in_memory:
            folder.remove(path)
        else:
            self._ended += 1
            aside = os.path.join(self._top, f"ended-{self._ended}")
            os.rename(path, aside)
            self._clean(aside)
        self._hide()

    def empty(self) -> None:
        """Remove all that nobody should have been able to leave, when no child is alive."""
        if self._hidden:
            self._show()
            folder.empty(self._top)
            self._hide()

    def close(self) -> None:
        for pid in self._cleaners:
            os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # bwrap's is a mount, which ends with it
            folder.remove(self._top)

    def _clean(self, path: str) -> None:
        """Remove a folder in a process of its own."""
        self._cleaners = [pid for pid in self._cleaners if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        if len(self._cleaners) >= MOST_CLEANERS:
            os.waitpid(self._cleaners.pop(0), 0)
        pid = os.fork()
        if pid:
            self._cleaners.append(pid)
            return
        try:
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            folder.remove(path)
        finally:
            os._exit(0)  # what is left, the parent removes

    def _show(self) -> None:
        if self._hidden:
            os.chmod(self._top, 0o700)

    def _hide(self) -> None:
        if self._hidden:
            os.chmod(self._top, 0o100)
