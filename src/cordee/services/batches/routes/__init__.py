"""The paths of batches and jobs: shapes and statuses only."""
