"""The history of accounts' schema."""
