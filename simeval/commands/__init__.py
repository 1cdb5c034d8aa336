"""The commands of `simeval`, one module each; what is heavy is imported when a command runs."""
