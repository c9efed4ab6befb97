"""What webhooks decide: pure."""
