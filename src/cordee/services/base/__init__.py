"""What every service stands on: its database, migrations, events, errors and pages."""
