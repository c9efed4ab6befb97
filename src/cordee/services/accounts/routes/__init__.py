"""Accounts over HTTP: what comes in is checked for its shape, what goes out is named; nothing is decided here."""
