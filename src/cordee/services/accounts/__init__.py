"""Accounts: who there is, what each may do and use, and the tokens and keys that prove it. See docs/accounts.md."""
