"""The peers, one file each: what it takes to start them and to log in."""
