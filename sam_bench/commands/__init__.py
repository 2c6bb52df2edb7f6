"""One module for each command. It imports what it needs when it runs, so that the other commands start fast."""
