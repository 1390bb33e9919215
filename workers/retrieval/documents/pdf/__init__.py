"""Reads PDFs with PDFium. `reading.read_pdf` is the entry; it runs in the child process only."""
