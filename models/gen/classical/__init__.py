"""Classical models for `make_classical.py`: data, estimators, their export and their own outputs."""
