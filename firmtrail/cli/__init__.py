"""What each command does. Imports that take long are made inside the command that needs them."""
