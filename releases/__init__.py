"""What differs between releases and distributions: data, read by stackspec.release."""
