"""Files that callers store, and uploads in parts."""
