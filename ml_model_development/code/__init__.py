"""The trainer; `build_model.py` is its console."""
