"""The part of the sandbox that runs inside it, in an interpreter without installed packages.

Inside, this package is called `inside` and the rest of code-alpaca does not exist. So it imports
only the standard library and, relatively, its own modules.
"""
