"""What every package may use: errors, time, secrets, events, single flight. Depends on nothing of ours."""
