"""One file per chapter of the install guide; each declares the chapter's result. Errata (E26 ...): docs/errata.md."""
