"""Graph passes over Relax, TVM's graph IR; see pipeline.py."""
