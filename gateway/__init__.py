"""The stateless replica: admit, place, relay, settle. Start reading in `pipeline.py`."""
