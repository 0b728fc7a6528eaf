"""The command `stackspec` and its subcommands."""
