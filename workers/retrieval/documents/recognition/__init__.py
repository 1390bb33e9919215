"""Text recognition, of the extra `ocr`: for pages of PDFs without text that can be read, and for pictures."""
