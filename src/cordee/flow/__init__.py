"""The path of a call: straight-line code that awaits facts and holds no rules."""
