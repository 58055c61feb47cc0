"""The collector: takes events from browsers and servers over HTTP."""
