"""What a server at a URL can do, tried by asking it: `sublet models check`."""
