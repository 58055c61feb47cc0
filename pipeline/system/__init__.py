"""What the operating system gives: file locks, private files, child processes, ports.

Standard library only, because applications load it with the producer.
"""
