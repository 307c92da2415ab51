"""Our programs: parts of the project, each run in a process of its own."""
