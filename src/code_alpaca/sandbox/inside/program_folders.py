"""Give each child of the fork server an empty folder, and remove it when the child has ended.

Other children cannot reach it: Landlock prevents that or, where the kernel has no Landlock, they
cannot list the parent folder and the names are random.
"""

from __future__ import annotations

import contextlib
import os

from .control_protocol import ServerConfig
from .folder_cleanup import empty_folder, remove_folder
from .landlock_rules import create_ruleset

MAX_CLEANERS = 8  # processes that remove folders


class ProgramFolders:
    """Make and remove the folders below `config.work_folder`, with their Landlock rules."""

    def __init__(self, config: ServerConfig) -> None:
        self._parent, self._in_memory = config.work_folder, config.private_namespaces
        self._readable = config.readable if config.landlock else None
        self._hides_names = self._in_memory and not config.landlock
        self._rulesets: dict[str | None, int] = {}
        self._created_at: dict[str, int] = {}  # ctime in ns, which any change would advance
        self._reusable: set[str] = set()  # folders that no child has changed
        self._cleaners: list[int] = []
        self._num_ended = 0
        self._allow_listing(False)

    def make(self, name: str, files: dict[str, str]) -> str:
        """Return a folder that contains only these text files."""
        path = os.path.join(self._parent, name)
        while path not in self._reusable and os.path.lexists(path):
            path += "+"  # another child of this kind is running
        if path in self._reusable:
            self._reusable.remove(path)
        else:
            self._allow_listing(True)
            os.mkdir(path, 0o700)
            self._created_at[path] = os.stat(path).st_ctime_ns
            self._allow_listing(False)
        for file_name, text in files.items():
            target = os.path.join(path, file_name)
            with open(target, "w", encoding="utf-8", errors="surrogatepass") as file:
                file.write(text)
        return path

    def get_ruleset(self, path: str | None) -> int | None:
        """Return a descriptor of Landlock rules that let `path` be written; None: no Landlock."""
        if self._readable is None:
            return None
        if path not in self._rulesets:
            self._rulesets[path] = create_ruleset(self._readable, path)
        return self._rulesets[path]

    def release(self, path: str) -> None:
        """Remove the folder of a child that has ended; on disk, in a background process."""
        # A folder that was written to and emptied could still leak information by its size.
        if not self._hides_names and os.stat(path).st_ctime_ns == self._created_at[path]:
            self._reusable.add(path)
            return
        if path in self._rulesets:
            os.close(self._rulesets.pop(path))
        self._allow_listing(True)
        if self._in_memory:
            remove_folder(path)
        else:
            self._num_ended += 1
            renamed = os.path.join(self._parent, f"ended-{self._num_ended}")
            os.rename(path, renamed)
            self._remove_in_background(renamed)
        self._allow_listing(False)

    def empty(self) -> None:
        """Remove what children may have left in the parent folder; none is running."""
        if self._hides_names:
            self._allow_listing(True)
            empty_folder(self._parent)
            self._allow_listing(False)

    def close(self) -> None:
        """Wait for the background processes and remove the parent folder."""
        for pid in self._cleaners:
            os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # Bubblewrap's is a mount, which ends by itself
            remove_folder(self._parent)

    def _remove_in_background(self, path: str) -> None:
        self._cleaners = [pid for pid in self._cleaners if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        if len(self._cleaners) >= MAX_CLEANERS:
            os.waitpid(self._cleaners.pop(0), 0)
        pid = os.fork()
        if pid:
            self._cleaners.append(pid)
            return
        try:
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            remove_folder(path)
        finally:
            os._exit(0)  # the supervisor removes the rest

    def _allow_listing(self, allowed: bool) -> None:
        if self._hides_names:
            os.chmod(self._parent, 0o700 if allowed else 0o100)
