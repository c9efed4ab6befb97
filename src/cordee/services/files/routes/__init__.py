"""The paths of files and uploads: shapes only."""
