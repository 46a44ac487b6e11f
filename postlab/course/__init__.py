"""What only the course knows: which week teaches what."""
