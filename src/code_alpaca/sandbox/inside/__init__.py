"""What runs inside a sandbox: standard library alone, and no import of the package."""
