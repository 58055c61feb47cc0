"""Reports: questions about the archive that may take long, asked once and answered by a worker."""
