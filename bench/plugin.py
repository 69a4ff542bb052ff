"""pytest hooks of the instrument (written next)."""
