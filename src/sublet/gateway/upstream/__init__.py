"""The engine's side: connections, attempts, what engines' errors mean, and how well each replica answers."""
