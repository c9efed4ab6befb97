"""What has happened is told to the servers of users."""
