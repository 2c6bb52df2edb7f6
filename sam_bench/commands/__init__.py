"""What each command does; its own imports keep the others light."""
