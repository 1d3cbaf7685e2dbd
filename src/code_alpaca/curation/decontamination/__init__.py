"""Find rows that leak benchmark problems."""
