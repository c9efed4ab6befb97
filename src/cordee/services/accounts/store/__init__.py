"""The tables of accounts, read and written inside a transaction that somebody else has begun."""
