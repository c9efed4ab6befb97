"""The history of the schema of batches."""
