"""What gateways share, in a Redis or a Valkey."""
