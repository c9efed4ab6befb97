"""What callers ask of webhooks."""
