"""The history of the schema of webhooks."""
