"""The commands, one module each: what it takes, which parts it composes, how its result looks."""
