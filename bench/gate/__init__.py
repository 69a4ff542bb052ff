"""The regression gate: a reference and a candidate side by side on one machine, and a verdict that says what it could not see."""
