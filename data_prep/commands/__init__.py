"""One module per command: its options and what it prints. The work is done in the rooms it imports when called."""
