"""Run commands that kill their own process at a chosen moment; a test spawns them."""

from __future__ import annotations

import os
import signal


def recover_and_die(words: list[str]) -> None:
    """Run `code-alpaca recover`, and die after the weights are written."""
    from code_alpaca.cli import main
    from code_alpaca.release import recover

    apply_weight_diff = recover.apply_weight_diff

    def apply_and_die(*arguments):
        apply_weight_diff(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    recover.apply_weight_diff = apply_and_die
    main(words)
