"""One file per chapter of the install guide; each declares what the chapter does. Errata (E26 ...): docs/errata.md."""
