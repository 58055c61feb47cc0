"""The HTTP server below the application: sockets, connections and what they may cost."""
