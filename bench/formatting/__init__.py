"""Figures and text as people read them: digits, tables, escaping."""
