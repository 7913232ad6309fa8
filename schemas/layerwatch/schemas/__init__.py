"""What crosses a topic: records, their codecs, topic names and JSON Schemas. Standard library and msgspec only."""
