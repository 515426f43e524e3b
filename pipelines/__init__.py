"""The pipelines' definitions, their specs, and the compiled packages."""
