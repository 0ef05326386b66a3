"""Parts shared by the model families."""
