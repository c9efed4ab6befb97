"""What files read and write in their database, inside a transaction that the caller has begun."""
