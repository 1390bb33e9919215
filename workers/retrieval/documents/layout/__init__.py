"""The layout of a page: words with their places, put into lines and paragraphs in reading order."""
