"""What a cluster lacks to be what its record says: looked for, shown, and made."""
