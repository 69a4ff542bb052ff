"""The command line: a file per group of commands, one command is one function."""
