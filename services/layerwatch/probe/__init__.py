"""In the runtime's process. Standard library and msgspec only."""
