"""What tests share: real servers, real workers, and a double for the language model."""
