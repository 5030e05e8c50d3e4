"""The one place where names become objects: a straight-line recipe per command."""
