"""End-to-end trials: from muscle signal to a lifted object, and where success is lost on the way."""
