"""What the operating system gives: file locks and private files. Standard library only, because
applications load it with the producer."""
