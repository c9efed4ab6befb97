"""One file per revision; run by services/base/migrate.py."""
