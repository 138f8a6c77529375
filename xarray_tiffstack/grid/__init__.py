"""Where each file belongs, decided from the file table alone; no file is opened."""
