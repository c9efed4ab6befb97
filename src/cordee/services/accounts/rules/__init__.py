"""The decisions of accounts: pure functions of what they are given."""
