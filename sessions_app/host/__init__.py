"""The session host: a process that owns the WhatsApp sockets of the sessions it holds a lease on."""
