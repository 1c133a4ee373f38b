"""Redis: the client, every key name, the functions, one adapter a port."""
