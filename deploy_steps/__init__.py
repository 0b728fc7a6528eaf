"""One file per chapter of the install guide; each declares what the chapter does."""
