"""Long work: many calls in one file, and sagas over several services."""
