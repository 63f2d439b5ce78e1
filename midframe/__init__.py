"""The command `midframe`: every command of `pipeline` and `model`, and a few about itself."""
