"""Measurements that are too long for the tests. Each is run by a target of the Makefile."""
