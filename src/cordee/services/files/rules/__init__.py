"""What files decide, as pure functions."""
