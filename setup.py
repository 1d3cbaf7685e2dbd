"""Refuse an old Python, where releases of pip before 24 name a dependency instead; see setup.cfg.

Written for the oldest Python that may run it.
"""

import sys
from configparser import ConfigParser
from os.path import abspath, dirname, join

from setuptools import setup

CONFIG = ConfigParser()
CONFIG.read(join(dirname(abspath(__file__)), "setup.cfg"), encoding="utf-8")
NEEDED = CONFIG["options"]["python_requires"].lstrip(">=")
if sys.version_info < tuple(map(int, NEEDED.split("."))):
    python = sys.version.split()[0]
    sys.exit(
        f"code-alpaca needs Python {NEEDED} or newer, and this is {python}: create the environment "
        "with a newer one"
    )
setup()
