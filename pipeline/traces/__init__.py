"""OpenTelemetry traces: what a process does as spans, and whose work it was.

Off, and OpenTelemetry not loaded, unless ANALYTICS_TRACES is set. Spans hold counts, names of our
own and times: no event, id, token, address or text of an error.
"""
