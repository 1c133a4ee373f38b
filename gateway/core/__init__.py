"""Pure meaning: no I/O, no clock, no chance. Time, ids and entropy come in as arguments."""
