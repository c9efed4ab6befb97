"""What batches read and write, in a transaction that the caller has begun."""
