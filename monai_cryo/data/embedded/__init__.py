"""The templates that come with the package, and the program that makes them from public maps."""
