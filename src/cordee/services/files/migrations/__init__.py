"""The history of files' schema."""
