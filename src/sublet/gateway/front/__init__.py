"""The client's side: sockets, connections, HTTP, and the bytes of answers."""
