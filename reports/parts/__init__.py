"""The parts of a page, computed from numbers: figures, tables and sentences."""
