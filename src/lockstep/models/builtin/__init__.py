"""The models whose weights ship with the package."""
